"""A synthetic chest CT whose infection is known, for machines without scans.

``shapes`` (fields and painting), ``anatomy`` (large structures), ``trees`` (vessels, airways), ``lesions``,
``chest`` (the whole chest, with texture and noise), ``series`` (the chest as DICOM, with its ground truth).
"""

from worker.phantom.series import Truth, write_phantom

__all__ = ["Truth", "write_phantom"]
