"""``radnode pipelines add``: a bundle from outside becomes a pipeline, or is refused with reasons.

arrive     folder, archive or TorchScript file -> a folder of our own, nothing of it believed
download   a bundle's name -> a folder, by MONAI's own downloader
card       which card it gets; a draft where there is none
add        all of it, the trial, and what is told
approve    the digest in ``node.toml``
commands   what a person types
"""
