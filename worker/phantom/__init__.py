"""A synthetic chest CT whose infection is known, for machines without scans.

``shapes`` (fields and painting), ``anatomy`` (large structures), ``trees`` (vessels, airways), ``lesions``,
``chest`` (all of it, with texture and noise), ``series`` (as DICOM, with its truth).
"""

from worker.phantom.series import Truth, write_phantom

__all__ = ["Truth", "write_phantom"]
