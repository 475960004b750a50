//! Self-test of the crypto backend, run at start: each kind of key verifies a signature that another
//! program made, and rejects it for a different message.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use thiserror::Error;

use crate::auth::keys::Key;
use crate::auth::secret::Secret;

pub(super) const MESSAGE: &str = "syncline";

/// The crypto backend failed its test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the crypto backend fails its test for {algorithm:?}, so no token could be trusted; this binary \
     or machine is broken"
)]
pub struct BackendError {
    /// The algorithm that failed.
    pub algorithm: Algorithm,
}

/// Signs and verifies with a secret made of zeros, and verifies with keys of every other kind.
///
/// # Errors
/// The first that goes wrong.
pub fn test_backend() -> Result<(), BackendError> {
    let zeros = [0; 32];
    let hs256 = BackendError { algorithm: Algorithm::HS256 };
    let signing = EncodingKey::from_secret(&zeros);
    let signature = jsonwebtoken::crypto::sign(MESSAGE.as_bytes(), &signing, Algorithm::HS256);
    let secret = Secret::new(&zeros).map_err(|_| hs256)?;
    holds(&Key::secret(&secret), &signature.map_err(|_| hs256)?)?;
    for Vector { algorithm, key, signature } in VECTORS {
        let failed = BackendError { algorithm };
        let key = URL_SAFE_NO_PAD.decode(key).map_err(|_| failed)?;
        holds(&Key::public(algorithm, &key).map_err(|_| failed)?, signature)?;
    }
    Ok(())
}

fn holds(key: &Key, signature: &str) -> Result<(), BackendError> {
    let right = key.has_signed(MESSAGE, signature) && !key.has_signed("Syncline", signature);
    if right { Ok(()) } else { Err(BackendError { algorithm: key.algorithm }) }
}

pub(super) struct Vector {
    pub(super) algorithm: Algorithm,
    /// X.509 SubjectPublicKeyInfo.
    pub(super) key: &'static str,
    /// Of [`MESSAGE`].
    pub(super) signature: &'static str,
}

/// Made by OpenSSL 3.0 with keys that were not kept.
pub(super) const VECTORS: [Vector; 5] = [
    Vector {
        algorithm: Algorithm::RS256,
        key: "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtQUhpS_CrMdw4g0_7DnnIad6E9-gKh_bgtji551F\
         Yzi5jJC32IFeGcUL4RqV5DDiFmMPhfO4Gsd1a7kwsp2BPq7ygf_EbaCAqYUDTF3jjhQH9A-Q_8A2WpBNVNa4\
         hS3wT5BKo-EKY6T7DeR5Drac3NAjktsgFrS1CsDlILu9MKC7M4xV6-lpZT-MW9N-Cme8s554vt0O8_KuGtMn\
         lqq83S8yk5xDLbr7RCfgkvt_YaAomzXFRDOFM1uTDH-6YqU3EVTomBJBleJmDdTAC-eqxGc99W3zXzgAAgwG\
         Be2ePQFkxxBYfpM8EuqbARVcOne2w2WaBsXX9_J4ktwae-GGIQIDAQAB",
        signature: "YWaRZBXAXGNNmCWUxOHoj9Cs0xVDGi2nJ3DcDMQJXvdtNrmJT5xuVEdXePJPGiNU8sLTi0hzRa6NtDvASFeP\
         7bTxZeqws4cXgQBt-j47ITi2TnlXr1WGkJnMN5HDa_m6F_G1QyI5ao09Uyg12iYsEc0UgGzSSyNd7iRZIC7C\
         27tFZDoRgQBD1UajaFuUub29TP5_j4AGd_HYNkSvSvEwMJTIwE2gwkGohzZn_bPt-jpSGVQ59OvruMVoXBT5\
         WlXgn_jnxKvLxSrAyEoALESd3XljEadfd2lPFDS08KGwVuh0GrbN19HQiBbdtHriQZQjDYUs6QfRu26cdwEc\
         zVq6-Q",
    },
    Vector {
        algorithm: Algorithm::PS256,
        key: "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtQUhpS_CrMdw4g0_7DnnIad6E9-gKh_bgtji551F\
         Yzi5jJC32IFeGcUL4RqV5DDiFmMPhfO4Gsd1a7kwsp2BPq7ygf_EbaCAqYUDTF3jjhQH9A-Q_8A2WpBNVNa4\
         hS3wT5BKo-EKY6T7DeR5Drac3NAjktsgFrS1CsDlILu9MKC7M4xV6-lpZT-MW9N-Cme8s554vt0O8_KuGtMn\
         lqq83S8yk5xDLbr7RCfgkvt_YaAomzXFRDOFM1uTDH-6YqU3EVTomBJBleJmDdTAC-eqxGc99W3zXzgAAgwG\
         Be2ePQFkxxBYfpM8EuqbARVcOne2w2WaBsXX9_J4ktwae-GGIQIDAQAB",
        signature: "jiyqbDlc9eeKA-OGrKrkFeL1Cv5Ug3e4ky2LR4B7oCCOvazysrdZepYK8Tfm4Y0s8uk88NLPiIitzH9NTdnS\
         M_5p90h1mRXgBnumQXHRsh98nqNagSsPntGxFl3UxlO0aCRmBC_EFbFMYsaAslxgNDs70_VEK5Tu9TmLGdXO\
         RoO0mV5XghhEVBNWoUkv58Kq2d4j4dYvaLj0CjsN8IvAq0bbZ5hcRewe6CEfoSn64ZFtWHXLDGhW54WfHQPU\
         vL2D-nseNkyWxCMj_G1MIkkxIvsg6qLeOm5_3edFdMP_oO87GocQTV8WsxJNLFKcHAGZEKmAmnrWcDjm8p3K\
         R-4fMw",
    },
    Vector {
        algorithm: Algorithm::ES256,
        key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBvgoEDhE5Ps12YBgC6aJKzHVFxOrB3nKUSRitO0ZDF1_VREN\
         Ri5J7Lh1hus_OLO3F9wt7S6p63_R5hp9AzMcVQ",
        signature: "_A6sJuIUoGbTbEbD-GzLv_AlFSGYtFx_mu-Q1fWKTul-uAL23aWxveqwQIH7RLSZxlG82xoayhmOsSWut1vX\
         ag",
    },
    Vector {
        algorithm: Algorithm::ES384,
        key: "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEgsjiEbxKIb8kTw-LgOcrlf56Dgk6BIOb5KOhH0YDj6XwEXwL37EO\
         ESDWOvDexSr6gNkP5g_pXG0Ggm5vUm49mD7dlWwgoQmz7ylyRTPJVBB8oGw_nn68Yq_nQwidNzez",
        signature: "gdsWZHd7DC-VjTzTYeoe04gE-K99OAkxFDDFU0mr7egJbRmMArH9gHsXMLd6W3ICZbA2FxqIePNyxOTRhxRM\
         gzBF_1Fj6kkXjMLjdpqFRS7DbSxy3agF04t49jSB3Ex9",
    },
    Vector {
        algorithm: Algorithm::EdDSA,
        key: "MCowBQYDK2VwAyEAB9GFE79tyHUnF9Zk5j2vtyV7FKWfvCAVLmvqdRpkKAs",
        signature: "NLtZqu7GI8dI3JPusUiBSID3Bto6s4xcdYcH0MYJB_Dw18DbkzFtbM0yIKEiP_1TMnGWVlIy_Dvb_a1GuvIg\
         BQ",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::install_crypto;

    #[test]
    fn key_6_the_backend_is_tested_and_a_fault_is_named() {
        install_crypto();
        assert_eq!(test_backend(), Ok(()));
        let [rsa, pss, ..] = VECTORS;
        let key = URL_SAFE_NO_PAD.decode(rsa.key).unwrap();
        let key = Key::public(rsa.algorithm, &key).unwrap();
        // The same key, another padding.
        let error = holds(&key, pss.signature).unwrap_err();
        assert!(error.to_string().contains("RS256"), "{error}");
    }
}
