"""How we call others: bounded associations and HTTP, TLS, questions to archives.

association.py   DICOM associations that end in bounded time
tls.py           who we are and whom we believe, at both ends
web.py           HTTP, in bounded time (patience.py) and size
query.py         what an archive has: by C-FIND (find.py), by QIDO-RS (qido.py)
"""
