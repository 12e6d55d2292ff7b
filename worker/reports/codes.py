"""Every code that the results use, and the structures that they describe.

A test checks standard codes against pydicom's copy of PS3.16; it also lists the codes that are in SNOMED CT, LOINC or
UCUM but not in PS3.16. Concepts without a standard code have one in Hilum's own coding scheme, which every report
identifies (PS3.3 C.12.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.coding import Code

from worker.findings import HuBand, Site


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


HILUM_SCHEME = "99HILUM"
HILUM_SCHEME_IDENTIFICATION = CodingSchemeIdentificationItem(
    designator=HILUM_SCHEME, name="Hilum", version="1", responsible_organization="Hilum"
)

# Document titles
DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report")
IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")

# What was done
CT = Code("25045-6", "LN", "CT unspecified body region")
SEGMENTATION = _dcm("113076", "Segmentation")
SOURCE_IMAGE_FOR_PROCESSING = _dcm("121322", "Source image for image processing operation")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")
DEVICE = _dcm("121007", "Device")
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")
MORPHOLOGICAL_OPERATIONS = _dcm("123104", "Morphological Operations")

# What was found
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
ABNORMAL_STRUCTURE = _sct("49755003", "Morphologically Abnormal Structure")
LUNG = _sct("39607008", "Lung")
LESION = _sct("52988006", "Lesion")
LEFT = _sct("7771000", "Left")
RIGHT = _sct("24028007", "Right")
SIDE = _sct("272741003", "Laterality")
BILATERAL = _sct("51440002", "Bilateral")

# What was measured
VOLUME = _sct("118565006", "Volume")
AREA = _sct("42798000", "Area")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
MEAN = _sct("373098007", "Mean")
MAXIMUM = _sct("56851009", "Maximum")
ATTENUATION_COEFFICIENT = _dcm("112031", "Attenuation Coefficient")
INFECTED_PERCENT = Code("PoIR", HILUM_SCHEME, "Proportion of infected region")
WHOLE_LUNG_SCORE = Code("WholeLungScore", HILUM_SCHEME, "Whole-lung severity score, 0 to 5")
SIX_ZONE_SCORE = Code("SixZoneScore", HILUM_SCHEME, "Six-zone severity score, 0 to 24")

# How the images were taken
SPACING_BETWEEN_SLICES = _dcm("112226", "Spacing between slices")
SLICE_THICKNESS = _dcm("112225", "Slice Thickness")
RECONSTRUCTION_ALGORITHM = _dcm("113961", "Reconstruction Algorithm")
CONTRAST_AGENT = _sct("7140000", "Contrast agent")
YES = _sct("373066001", "Yes")
NO = _sct("373067005", "No")

# What changed
VOLUME_CHANGE = Code("VolumeChange", HILUM_SCHEME, "Change of infected volume since the prior")
VOLUME_CHANGE_PERCENT = Code("VolumeChangePct", HILUM_SCHEME, "Relative change of infected volume since the prior")
INFECTED_PERCENT_CHANGE = Code("PoIRChange", HILUM_SCHEME, "Change of PoIR since the prior, in points")
TIME_SINCE_PRIOR = Code("TimeSincePrior", HILUM_SCHEME, "Time since the prior")

# Outcome of the analysis
FINDINGS_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
SUCCEEDED_WITHOUT_FINDINGS = _dcm("111241", "All algorithms succeeded; without findings")
SUCCEEDED_WITH_FINDINGS = _dcm("111242", "All algorithms succeeded; with findings")
PARTLY_WITHOUT_FINDINGS = _dcm("111243", "Not all algorithms succeeded; without findings")
PARTLY_WITH_FINDINGS = _dcm("111244", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")
QUALITY_FINDING = _dcm("111052", "Quality Finding")
INSUFFICIENT_QUALITY = _dcm("110531", "Insufficient quality for interpretation")
CONCLUSION = _dcm("121077", "Conclusion")
COMMENT = _dcm("121106", "Comment")

# Withdrawal of a result
REJECTED_FOR_QUALITY_REASONS = _dcm("113001", "Rejected for Quality Reasons")

# Structure of reports (concept names that highdicom writes and Hilum reads back)
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")

# Units
MILLILITER = Code("mL", "UCUM", "milliliter")
PERCENT = Code("%", "UCUM", "Percent")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
MILLIMETER = Code("mm", "UCUM", "mm")
HOUR = Code("h", "UCUM", "hour")
SCORE = Code("{score}", "UCUM", "score")


def lung_in_band(band: HuBand) -> Code:
    """Return the code of the volume of lung in a band of HU."""
    if band.from_hu is None:
        words = f"below {band.to_hu} HU"
    elif band.to_hu is None:
        words = f"from {band.from_hu} HU"
    else:
        words = f"from {band.from_hu} to {band.to_hu} HU"
    start, end = ("" if edge is None else str(edge) for edge in (band.from_hu, band.to_hu))
    return Code(f"HU{start}..{end}", HILUM_SCHEME, f"Volume of lung {words}")


LATERALITY: dict[Site, Code] = {"left": LEFT, "right": RIGHT, "both": BILATERAL}


@dataclass(frozen=True)
class Structure:
    """A structure that is segmented: its names, codes and colour in SEG, SR and key image."""

    name: str
    label: str
    site: Site
    category: Code
    type: Code
    rgb: tuple[int, int, int]

    @property
    def tracking_id(self) -> str:
        """The tracking identifier of the structure, the same in SEG and SR."""
        return f"{self.label}, both lungs" if self.site == "both" else self.label


LEFT_LUNG = Structure("left-lung", "Left lung", "left", ANATOMICAL_STRUCTURE, LUNG, (128, 174, 128))
RIGHT_LUNG = Structure("right-lung", "Right lung", "right", ANATOMICAL_STRUCTURE, LUNG, (177, 122, 101))
INFECTION = Structure("infection", "Infection", "both", ABNORMAL_STRUCTURE, LESION, (230, 60, 60))
