"""Ed25519 keys in PEM files, and the DSSE envelope that they sign.

openssl genpkey -algorithm ed25519 -out key.pem
openssl pkey -in key.pem -pubout -out key.pub.pem
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from logitproof.errors import ContractError
from logitproof.files.untrusted import parse_json, read_bytes, refusal, validated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from securesystemslib.signer._key import SSlibKey

PEM_LIMIT = 1 << 14
MAKE = "make one by `openssl genpkey -algorithm ed25519 -out key.pem`"
PUBLIC = "its public half is written by `openssl pkey -in key.pem -pubout -out key.pub.pem`"
INSTALL = "pip install 'logitproof[attest]'"


class _Signature(BaseModel):
    model_config = ConfigDict(extra="forbid")
    keyid: str
    sig: str


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid")
    payload: str
    payloadType: str
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs; ContractError where the file holds none, or an encrypted one."""
    crypto = _crypto()
    data = read_bytes(path, limit=PEM_LIMIT)
    try:
        key = crypto.serialization.load_pem_private_key(data, password=None)
    except TypeError:
        remedy = "decrypt it with `openssl pkey -in FILE -out key.pem`, into a place that nobody else reads"
        raise refusal(path, "", "is encrypted", remedy) from None
    except (ValueError, crypto.unsupported):
        what = "is a public key, which cannot sign" if b"PUBLIC KEY" in data else "holds no private key in PEM"
        raise refusal(path, "", what, MAKE) from None
    if not isinstance(key, crypto.private):
        raise refusal(path, "", "is no Ed25519 key", MAKE)
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key that verifies; ContractError where the file holds none. A private key is refused: it should not travel."""
    crypto = _crypto()
    data = read_bytes(path, limit=PEM_LIMIT)
    try:
        key = crypto.serialization.load_pem_public_key(data)
    except (ValueError, crypto.unsupported):
        private = "is a private key, which nobody but its owner should have"
        what = private if b"PRIVATE KEY" in data else "holds no public key in PEM"
        raise refusal(path, "", what, PUBLIC) from None
    if not isinstance(key, crypto.public):
        raise refusal(path, "", "is no Ed25519 key", MAKE)
    return key


def signed(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> bytes:
    """The file of an envelope around the payload."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    envelope = Envelope(payload, payload_type, {})
    envelope.sign(CryptoSigner(key))
    return _layout(envelope.to_dict())


class Opened:
    """An envelope that was read. Its payload may be looked at before it is verified, to say what was edited."""

    def __init__(self, path: Path, limit: int) -> None:
        """Raises ContractError where a byte is not as `signed` lays it out."""
        self.path = path
        data = read_bytes(path, limit=limit)
        record = parse_json(data, path, remedy=REMEDY)
        envelope = validated(path, _Envelope, record, remedy=REMEDY)
        self.payload = _decoded(envelope.payload, path, "payload")
        self.payload_type = envelope.payloadType
        self.signature = envelope.signatures[0]
        _decoded(self.signature.sig, path, "signatures.0.sig")
        if _layout(envelope.model_dump()) != data:
            raise refusal(path, "", "is not laid out as `logitproof attest` writes it: bytes were added or changed", REMEDY)

    def refuse_unsigned(self, public: Ed25519PublicKey) -> str:
        """The id of the key; raises ContractError where this key has not signed these bytes."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

        key: SSlibKey = SSlibKey.from_crypto(public)
        if self.signature.keyid != key.keyid:
            text = f"is {visible_id(self.signature.keyid)}, and the key that was given is {visible_id(key.keyid)}"
            raise refusal(self.path, "signatures.0.keyid", text, "verify it with the key of the team that signed it")
        try:
            Envelope.from_dict(
                {
                    "payload": base64.b64encode(self.payload).decode(),
                    "payloadType": self.payload_type,
                    "signatures": [self.signature.model_dump()],
                }
            ).verify([key], 1)
        except VerificationError:
            text = "is not this key's signature of the payload"
            raise refusal(self.path, "signatures.0.sig", text, REMEDY) from None
        return key.keyid


REMEDY = "fetch the file again from the team that signed it"


def visible_id(keyid: str) -> str:
    """A key's id as far as anybody compares it."""
    return ascii(keyid)[1:13]


def _layout(record: dict[str, Any]) -> bytes:
    """The one layout of an envelope, so that no byte of the file is free."""
    return (json.dumps(record, indent=1, ensure_ascii=True) + "\n").encode()


def _decoded(text: str, path: Path, place: str) -> bytes:
    """The bytes of base64 in its only spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refusal(path, place, "is not base64", REMEDY) from None
    if base64.b64encode(data).decode() != text:
        raise refusal(path, place, "is not base64 as it is written", REMEDY)
    return data


class _Crypto:
    """The libraries, where they are installed."""

    def __init__(self) -> None:
        import securesystemslib.dsse  # noqa: F401
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self.serialization = serialization
        self.unsupported = UnsupportedAlgorithm
        self.private, self.public = ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey


def _crypto() -> _Crypto:
    try:
        return _Crypto()
    except ImportError as error:
        raise ContractError(f"signing needs a library that is not installed: {error.name}", remedy=INSTALL) from None
