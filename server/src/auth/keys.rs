//! Verification keys. Each is for one algorithm, the key's and never the token's: a public key cannot be
//! used as a secret, nor an RSA key with another padding.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use thiserror::Error;
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::auth::secret::Secret;

/// Bits of an RSA key. Below, it can be broken; above, one verification takes milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Bytes of a key file.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A verification key.
#[derive(Clone)]
pub struct Key {
    pub(super) algorithm: Algorithm,
    /// The `kid` of a key of a JWKS.
    pub(super) kid: Option<String>,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

/// Why bytes are not a usable verification key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Another kind of key, or an invalid point.
    #[error("it is none of RSA, P-256, P-384, Ed25519, or a point that is not on its curve")]
    Unsupported,
    /// An RSA key too short to be safe, or too long to be fast.
    #[error("it is an RSA key of {bits} bits; between 2048 and 8192 are taken")]
    RsaBits {
        /// The key's size.
        bits: usize,
    },
}

/// Why a public key cannot be read from a file.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the public key {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file holds a private key.
    #[error(
        "{} holds a private key, and the server needs the public one: \
         openssl pkey -in private.pem -pubout -out public.pem", .path.display()
    )]
    Private {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no public key in PEM.
    #[error(
        "{} holds no public key in PEM (-----BEGIN PUBLIC KEY-----); openssl x509 -pubkey takes it \
         out of a certificate", .path.display()
    )]
    NoPem {
        /// The file.
        path: PathBuf,
    },
    /// The file holds a key that cannot be used.
    #[error("the key in {} cannot be used: {error}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
}

impl Key {
    /// The key of HS256 tokens.
    #[must_use]
    pub fn secret(secret: &Secret) -> Self {
        let decoding = DecodingKey::from_secret(secret.bytes());
        Self { algorithm: Algorithm::HS256, kid: None, decoding }
    }

    /// The public key in a PEM file. RSA is for RS256, P-256 for ES256, P-384 for ES384, Ed25519
    /// for EdDSA.
    ///
    /// # Errors
    /// If there is no such file, or no such key in it.
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        let text = read(path, FILE_BYTES_MAX)
            .map_err(|source| KeyFileError::Unreadable { path: path.to_owned(), source })?;
        if String::from_utf8_lossy(&text).contains("PRIVATE KEY-----") {
            return Err(KeyFileError::Private { path: path.to_owned() });
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&text)
            .map_err(|_| KeyFileError::NoPem { path: path.to_owned() })?;
        let known = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256];
        let parses = |algorithm: &Algorithm| ParsedPublicKey::new(form(*algorithm), &der).is_ok();
        let algorithm = known.into_iter().find(parses).ok_or(KeyError::Unsupported);
        algorithm
            .and_then(|algorithm| Self::public(algorithm, &der))
            .map_err(|error| KeyFileError::Key { path: path.to_owned(), error })
    }

    /// A public key in the form that X.509 has for it, or as a bare point.
    pub(super) fn public(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        ParsedPublicKey::new(form(algorithm), bytes).map_err(|_| KeyError::Unsupported)?;
        let decoding = match algorithm.family() {
            AlgorithmFamily::Hmac => return Err(KeyError::Unsupported),
            AlgorithmFamily::Ec => DecodingKey::from_ec_der(bytes),
            AlgorithmFamily::Ed => DecodingKey::from_ed_der(bytes),
            AlgorithmFamily::Rsa => {
                let key =
                    PublicEncryptingKey::from_der(bytes).map_err(|_| KeyError::Unsupported)?;
                let bits = key.key_size_bits();
                if !RSA_BITS.contains(&bits) {
                    return Err(KeyError::RsaBits { bits });
                }
                DecodingKey::from_rsa_der(bytes)
            }
        };
        Ok(Self { algorithm, kid: None, decoding })
    }

    /// The same key with this `kid`.
    pub(super) fn named(self, kid: Option<String>) -> Self {
        Self { kid, ..self }
    }

    /// Whether `signature` is this key's for `message`.
    pub(super) fn has_signed(&self, message: &str, signature: &str) -> bool {
        let verified = jsonwebtoken::crypto::verify(
            signature,
            message.as_bytes(),
            &self.decoding,
            self.algorithm,
        );
        verified.unwrap_or(false)
    }
}

/// The form of a key for `algorithm`.
fn form(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm.family() {
        AlgorithmFamily::Ec if algorithm == Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        AlgorithmFamily::Ec => &ECDSA_P384_SHA384_FIXED,
        AlgorithmFamily::Ed => &ED25519,
        // RSA keys of either padding have one form; secrets are not parsed.
        AlgorithmFamily::Rsa | AlgorithmFamily::Hmac => &RSA_PKCS1_2048_8192_SHA256,
    }
}

/// The content of a file, up to a bound.
pub(super) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::super::selftest::{MESSAGE, VECTORS};
    use super::*;
    use crate::auth::install_crypto;

    /// A file with this text.
    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn refused(text: &str) -> KeyFileError {
        Key::from_file(file(text).path()).unwrap_err()
    }

    fn pem(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn key_2_a_pem_file_is_for_the_algorithm_of_its_key() {
        install_crypto();
        for vector in VECTORS {
            let der = URL_SAFE_NO_PAD.decode(vector.key).unwrap();
            let file = file(&pem("PUBLIC KEY", &STANDARD.encode(der)));
            let key = Key::from_file(file.path()).unwrap();
            // A file cannot say that its key is for the other padding.
            let is_other_padding = vector.algorithm == Algorithm::PS256;
            let fits = key.algorithm == vector.algorithm;
            assert_eq!(fits, !is_other_padding, "{:?}", vector.algorithm);
            assert_eq!(key.has_signed(MESSAGE, vector.signature), fits, "{:?}", vector.algorithm);
        }
    }

    #[test]
    fn key_2_a_key_of_an_unknown_kind_is_refused() {
        const P521: &str = "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBBY8Mf6IbPJ8pM1ZtjiOprCExSD2jN3N12El2PZvn0aZmqSj9\
             La+w70Fi1yy4GBmRV0YRvvZWxHmI/hiYqv7k3iEBYupYvHyOTOldsL6/DLZEhiqBHH25OTkoHHNx6ZBU48ZD\
             xAw3M5Jq2FyrheBaPZAQrUK4hBU2npmr4QCvmLad6T4=";
        const SECP256K1: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAENF44zzRhsPRSQMRMansrHdLGY7aAXTahqIYLSF8YRbUNTyxJCd43\
             3Do+8qHRp3UMYnleGuQfnaHinCDICGWeWw==";
        const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCYripdEJr77rcTvzeORG8IIysENgCnhXcpxOIRYGV5pDQT\
             DbNmGDxlaVNu+80jAgcEco1VHSa4YxHOaWzaBYMcV1Ati5pmTxIkRoAdFujON1DLe+7T5GR4B1vpee0zFiVh\
             WnJpeH2/NaVez3l5zf4FvJ560gSzPmTIX6bghmHdlQIDAQAB";
        const X25519: &str = "MCowBQYDK2VuAyEAFMgyhbXVKxJmRf3SDNOSKigfEU16lOLicPMI8yMR7WQ=";
        for kind in [P521, SECP256K1, RSA_1024, X25519, "MAA=", ""] {
            let error = refused(&pem("PUBLIC KEY", kind));
            assert!(matches!(error, KeyFileError::Key { .. }), "{error}");
        }
        let error = refused(&pem("EC PRIVATE KEY", P521));
        assert!(error.to_string().contains("-pubout"), "{error}");
        for text in ["", "a secret for tests, 32 bytes or more", &pem("CERTIFICATE", P521)] {
            let error = refused(text);
            assert!(matches!(error, KeyFileError::NoPem { .. }), "{error}");
        }
        let error = refused(&"\n".repeat(FILE_BYTES_MAX + 1));
        assert!(matches!(error, KeyFileError::Unreadable { .. }), "{error}");
    }
}
