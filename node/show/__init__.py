"""People and machines look: DICOMweb over what the node holds."""
