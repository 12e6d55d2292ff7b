"""``python -m dicom_node`` is ``hilum``."""

import sys

from dicom_node.cli import main

sys.exit(main())
