//! Tokens as other programs make them, right and wrong ones, and the keys for that.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaPublicKeyComponents,
};
use aws_lc_rs::{encoding, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key that signs.
#[derive(Debug)]
pub enum SigningKey {
    /// HS256.
    Secret(Vec<u8>),
    /// HS384.
    Secret384(Vec<u8>),
    /// HS512.
    Secret512(Vec<u8>),
    /// RS256, or PS256 if the header says so.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    P256(EcdsaKeyPair),
    /// ES384.
    P384(EcdsaKeyPair),
    /// EdDSA.
    Ed25519(Ed25519KeyPair),
}

/// base64url without padding.
#[must_use]
pub fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    /// A new RSA key of 2048 bits.
    #[must_use]
    pub fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    /// A new key on P-256.
    #[must_use]
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// A new key on P-384.
    #[must_use]
    pub fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key"))
    }

    /// A new Ed25519 key.
    #[must_use]
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().expect("a key"))
    }

    /// What its tokens say in `alg`.
    #[must_use]
    pub fn alg(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Secret384(_) => "HS384",
            Self::Secret512(_) => "HS512",
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// A token with the usual header, and a `kid` if there is one.
    #[must_use]
    pub fn token(&self, kid: Option<&str>, payload: &Value) -> String {
        let mut header = json!({ "alg": self.alg(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.token_of(&part(header.to_string()), &part(payload.to_string()))
    }

    /// A token of two parts, whatever they are.
    #[must_use]
    pub fn token_of(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        let is_pss = URL_SAFE_NO_PAD.decode(header).is_ok_and(|header| {
            serde_json::from_slice(&header).is_ok_and(|header: Value| header["alg"] == "PS256")
        });
        let signature = self.sign(message.as_bytes(), is_pss);
        format!("{message}.{}", part(signature))
    }

    fn sign(&self, message: &[u8], is_pss: bool) -> Vec<u8> {
        let random = SystemRandom::new();
        let mac = |algorithm, secret: &[u8]| {
            hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
        };
        match self {
            Self::Secret(secret) => mac(hmac::HMAC_SHA256, secret),
            Self::Secret384(secret) => mac(hmac::HMAC_SHA384, secret),
            Self::Secret512(secret) => mac(hmac::HMAC_SHA512, secret),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = if is_pss {
                    key.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                } else {
                    key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                };
                signed.expect("it signs");
                signature
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).expect("it signs").as_ref().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public half as an entry of a key set.
    #[must_use]
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Secret(secret) | Self::Secret384(secret) | Self::Secret512(secret) => {
                json!({ "kty": "oct", "kid": kid, "k": part(secret) })
            }
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "kid": kid, "n": part(public.n), "e": part(public.e) })
            }
            Self::P256(key) | Self::P384(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": crv, "kid": kid, "x": part(x), "y": part(y) })
            }
            Self::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": part(key.public_key()) })
            }
        }
    }

    /// The public half as X.509 has it.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let der: encoding::PublicKeyX509Der<'static> = match self {
            Self::Secret(_) | Self::Secret384(_) | Self::Secret512(_) => {
                panic!("a secret has no public half")
            }
            Self::Rsa(key) => key.public_key().as_der().expect("it encodes"),
            Self::P256(key) | Self::P384(key) => key.public_key().as_der().expect("it encodes"),
            Self::Ed25519(key) => key.public_key().as_der().expect("it encodes"),
        };
        der.as_ref().to_vec()
    }

    /// The same as a PEM file.
    #[must_use]
    pub fn pem(&self) -> String {
        let body = STANDARD.encode(self.der());
        let lines: Vec<&str> = (0..body.len().div_ceil(64))
            .map(|line| &body[line * 64..body.len().min(line * 64 + 64)])
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}
