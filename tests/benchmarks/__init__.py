"""The benchmarks of ``hilum bench``: one module each; the processes of one load no other benchmark."""
