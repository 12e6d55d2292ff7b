"""Certificate authorities and certificates for the tests, made with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom_node.settings import TLSSettings
from tests.services import missing


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority(Certificate):
    """A certificate authority, which signs certificates."""

    def sign(self, name: str, alternative: str = "IP:127.0.0.1,DNS:localhost") -> Certificate:
        """Return a new certificate with its key, signed by this authority."""
        made = Certificate(self.key.with_name(f"{name}.crt"), self.key.with_name(f"{name}.key"))
        make_certificate(
            made, name, "-CA", self.certificate, "-CAkey", self.key, "-addext", f"subjectAltName={alternative}"
        )
        return made

    def settings(self, certificate: Certificate) -> TLSSettings:
        """Return TLS settings that use a certificate and trust this authority."""
        return TLSSettings(certificate=certificate.certificate, key=certificate.key, authorities=self.certificate)


def make_authority(folder: Path, name: str = "authority") -> Authority:
    """Return an authority whose files lie in a new folder of their own."""
    home = folder / name
    home.mkdir()
    authority = Authority(home / "ca.crt", home / "ca.key")
    make_certificate(authority, name, "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    return authority


def make_certificate(files: Certificate, name: str, *options: str | Path) -> None:
    """Write a certificate and its key."""
    openssl = shutil.which("openssl") or missing("OpenSSL's command")
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    command = [openssl, *new, "-subj", f"/CN={name}", "-out", files.certificate, "-keyout", files.key, *options]
    subprocess.run(command, check=True, capture_output=True)
