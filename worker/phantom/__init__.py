"""A synthetic chest CT whose infection is known, for machines without scans.

``shapes`` (fields and painting), ``anatomy`` (large structures), ``trees`` (vessels, airways), ``lesions``,
``chest`` (all of it, with texture and noise), ``series`` (as DICOM, with its truth).
"""

from worker.phantom.series import TRUTH_FILE, Truth, write_phantom, write_truth

__all__ = ["TRUTH_FILE", "Truth", "write_phantom", "write_truth"]
