"""A node's key pairs, and the short names derived from public keys.

ZeroMQ wants CURVE keys as Z85 text, so that is the form they have everywhere outside of certificates. CURVE keys are
X25519 keys: PyNaCl makes them, and this layer needs no ZeroMQ.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from zmesh.core.trust.certificate import KEY_BYTES
from zmesh.security.masking import HoldsSecrets

__all__ = [
    "NodeKeys",
    "curve_public_of",
    "fingerprint_of",
    "holder_of",
    "mesh_id_of",
    "new_curve_secret",
    "new_signing_seed",
    "signing_public_of",
    "z85_decode",
    "z85_encode",
]

_BASE85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_TO_Z85 = bytes.maketrans(_BASE85, _Z85)
_FROM_Z85 = bytes.maketrans(_Z85, _BASE85)
_Z85_KEY_LENGTH = 40
_FINGERPRINT_BYTES = 10  # 80 bits: short enough to read out, too many to search for a twin
_MESH_ID_BYTES = 16


def z85_encode(key: bytes) -> bytes:
    """The Z85 form (ZeroMQ RFC 32) of 32 bytes: Git's base 85 with another alphabet."""
    return base64.b85encode(key).translate(_TO_Z85)


def z85_decode(text: bytes) -> bytes:
    """The 32 bytes of a key in Z85. Raises ``ValueError`` for anything else."""
    if len(text) != _Z85_KEY_LENGTH or text.translate(None, _Z85):
        raise ValueError("a CURVE key is 40 characters of Z85")
    return base64.b85decode(text.translate(_FROM_Z85))


def new_curve_secret() -> bytes:
    """A fresh CURVE secret key, in Z85."""
    return z85_encode(bytes(PrivateKey.generate()))


def curve_public_of(curve_secret: bytes) -> bytes:
    """The public key of a CURVE secret key, both in Z85."""
    return z85_encode(bytes(PrivateKey(z85_decode(curve_secret)).public_key))


def new_signing_seed() -> bytes:
    """A fresh Ed25519 seed of 32 bytes."""
    return bytes(SigningKey.generate())


def signing_public_of(signing_seed: bytes) -> bytes:
    """The Ed25519 public key (32 bytes) of a seed."""
    return bytes(SigningKey(signing_seed).verify_key)


def fingerprint_of(curve_public: bytes) -> str:
    """A node's CURVE key (Z85) for people to compare: ``3F2A-91BC-...``, five groups of four."""
    digest = hashlib.blake2b(z85_decode(curve_public)).digest()[:_FINGERPRINT_BYTES].hex().upper()
    return "-".join(digest[start : start + 4] for start in range(0, len(digest), 4))


def holder_of(curve_public: bytes, signing_public: bytes) -> bytes:
    """What stands for a pair of public keys in the ledger.

    Both count: whoever could keep a member's signing key and bring a CURVE key of its own could take its place.
    """
    return hashlib.blake2b(z85_decode(curve_public) + signing_public).digest()[:KEY_BYTES]


def mesh_id_of(authority_public: bytes) -> str:
    """The identifier of the mesh that this authority key founded: 32 hexadecimal digits."""
    return hashlib.blake2b(authority_public).digest()[:_MESH_ID_BYTES].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKeys(HoldsSecrets):
    """The two key pairs of a node; only the secret halves are stored, the public ones follow from them."""

    curve_secret: bytes = field(repr=False, compare=False)  # Z85
    signing_seed: bytes = field(repr=False, compare=False)  # 32 bytes
    curve_public: bytes = field(init=False)
    signing_public: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.signing_seed) != KEY_BYTES:
            raise ValueError(f"a signing seed is {KEY_BYTES} bytes")
        object.__setattr__(self, "curve_public", curve_public_of(self.curve_secret))
        object.__setattr__(self, "signing_public", signing_public_of(self.signing_seed))

    @classmethod
    def generate(cls) -> NodeKeys:
        """Fresh keys from the operating system's randomness."""
        return cls(curve_secret=new_curve_secret(), signing_seed=new_signing_seed())
