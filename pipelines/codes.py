"""The coded concepts that the pipelines share, each named once.

Standard codes are those of the context groups of PS3.16; a test looks every one of them up in
pydicom's copy of the standard. Where the standard has no concept, `PRIVATE_SCHEME` does: a coding
scheme designator that begins with 99 is declared private by PS3.16 section 8.2.
"""

from __future__ import annotations

from pipelines.concept import Code

PRIVATE_SCHEME = "99RADNODE"

#: How a bundle may name what is no structure.
BACKGROUND = frozenset({"background", "bg", "__background__"})

# Segmentation property categories, CID 7150
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")

# Laterality, CID 244
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")

# Structures
LUNG = Code("39607008", "SCT", "Lung")  # CID 7151
#: A set of voxels, not a diagnosis: healthy lungs have some too, so neither "emphysema" nor
#: "lesion" would be true of it. PS3.16 has no neutral concept for it.
LOW_ATTENUATION_AREA = Code("LAA-950", PRIVATE_SCHEME, "Low attenuation area below -950 HU")

# What is measured, CID 218 and 7469
VOLUME = Code("118565006", "SCT", "Volume")
EJECTION_FRACTION = Code("70822001", "SCT", "Cardiac ejection fraction")
STROKE_VOLUME = Code("90096001", "SCT", "Stroke Volume")
LEFT_ED_VOLUME = Code("8821-1", "LN", "Left Ventricular ED Volume")  # CID 3468
LEFT_ES_VOLUME = Code("8823-7", "LN", "Left Ventricular ES Volume")  # CID 3469
RIGHT_ED_VOLUME = Code("8822-9", "LN", "Right Ventricular ED Volume")  # CID 3468
RIGHT_ES_VOLUME = Code("8824-5", "LN", "Right Ventricular ES Volume")  # CID 3469
AREA = Code("42798000", "SCT", "Area")  # CID 7471
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
#: No concept of PS3.16 means the share of a region below an attenuation threshold.
SHARE_BELOW_950 = Code("LAA-950-PERCENT", PRIVATE_SCHEME, "LAA-950")  # short: viewers cut it off
#: The value of a voxel where no standard name is known, e.g. of MR.
INTENSITY = Code("INTENSITY", PRIVATE_SCHEME, "Image intensity")

# How the values of a region became one number, CID 7464
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MEDIAN = Code("373099004", "SCT", "Median")
#: CID 7464 has no percentiles; CID 7465 means percentiles of a population of patients.
PERCENTILE_15 = Code("PERCENTILE-15", PRIVATE_SCHEME, "15th percentile")

# Answers, CID 240
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")

# What the values of a map are
PROBABILITY = Code("122157", "DCM", "Probability")
SALIENCY = Code("130404", "DCM", "Saliency")  # CID 217
GRADIENT_CLASS_ACTIVATION = Code("130403", "DCM", "Gradient-weighted class activation")  # CID 217

# How it was measured, CID 7474
VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")

# Units, UCUM
MILLILITRE = Code("mL", "UCUM", "milliliter")
SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")
PERCENT = Code("%", "UCUM", "Percent")
NO_UNITS = Code("1", "UCUM", "no units")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
