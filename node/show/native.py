"""The Native DICOM Model (PS3.19 A.1), for those who prefer XML, from the DICOM JSON Model (PS3.18 F)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

from pydicom.datadict import keyword_for_tag

#: What no XML document may hold, in whatever form (XML 1.0, 2.2).
_NO_LETTERS: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def native_model(data: Mapping[str, Any]) -> bytes:
    """Return an XML document of one data set."""
    root = ElementTree.Element("NativeDicomModel", {"xml:space": "preserve"})
    _fill(root, data)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _fill(parent: ElementTree.Element, data: Mapping[str, Any]) -> None:
    for tag, element in sorted(data.items()):
        about = {"tag": tag, "vr": element["vr"]}
        if keyword := keyword_for_tag(int(tag, 16)):
            about["keyword"] = keyword
        attribute = ElementTree.SubElement(parent, "DicomAttribute", about)
        if "InlineBinary" in element:
            ElementTree.SubElement(attribute, "InlineBinary").text = element["InlineBinary"]
        elif "BulkDataURI" in element:
            ElementTree.SubElement(attribute, "BulkData", {"uri": element["BulkDataURI"]})
        for number, value in enumerate(element.get("Value", ()), 1):
            _value(attribute, element["vr"], str(number), value)


def _value(attribute: ElementTree.Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _fill(ElementTree.SubElement(attribute, "Item", {"number": number}), value)
    elif vr == "PN":
        name = ElementTree.SubElement(attribute, "PersonName", {"number": number})
        for group, text in (value or {}).items():
            within = ElementTree.SubElement(name, group)
            for part, said in zip(_NAME_PARTS, text.split("^"), strict=False):
                if said:
                    ElementTree.SubElement(within, part).text = _NO_LETTERS.sub("", said)
    elif value is not None:
        ElementTree.SubElement(attribute, "Value", {"number": number}).text = _NO_LETTERS.sub("", str(value))
