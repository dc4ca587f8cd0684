"""The analysis node: DICOM in, jobs, pipelines run elsewhere, DICOM out.

The steps are folders named by verbs, and their alphabetical order is the order of the data:
accept, assemble, assign, compute, encode, send (and show). Read `node.flow` first.
"""

__version__ = "0.1.0"

#: Names this implementation in associations and files (PS3.7 D.3.3.2); a fixed UUID-derived UID.
IMPLEMENTATION_CLASS_UID = "2.25.310176179646603395467293953033495173108"
#: PS3.7 D.3.3.2.4: at most 16 characters.
IMPLEMENTATION_VERSION_NAME = f"RADNODE_{__version__}".replace(".", "_")[:16]
#: Instance Creator UID (0008,0014) of everything we make: how the node knows its own results.
INSTANCE_CREATOR_UID = "2.25.327345774306335010303965170289481679910"
