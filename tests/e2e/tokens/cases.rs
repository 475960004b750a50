//! What is presented in the table of wrong tokens.

use serde_json::{Value, json};
use syncline_server::auth::unix_now;
use syncline_tests::jwt::{SigningKey, part};
use syncline_tests::server::SECRET;

use super::secret;
use super::table::{AUDIENCE, ISSUER, World};

pub(super) fn claims() -> Value {
    let access = json!({ "*": "admin" });
    json!({
        "exp": unix_now() + 60, "sub": "mallory", "iss": ISSUER, "aud": AUDIENCE, "access": access
    })
}

pub(super) fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

pub(super) fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

pub(super) type Cases = Vec<(String, Vec<u8>)>;

/// Text that is not of the form of a token, or is a good one that was damaged.
pub(super) fn malformed() -> Cases {
    let good = secret().token(None, &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    // The last character stands for four bits and two that must be zero.
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    let cases = [
        ("one dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("three dots", "...".to_owned()),
        ("letters", "a.b.c".to_owned()),
        ("a word", "garbage".to_owned()),
        ("the header alone", header.to_owned()),
        ("no signature", format!("{header}.{payload}")),
        ("an empty signature", format!("{header}.{payload}.")),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("a dot behind", format!("{good}.")),
        ("a dot before", format!(".{good}")),
        ("four parts", format!("{good}.{signature}")),
        (
            "five parts, as if encrypted",
            format!("{header}.{payload}.{payload}.{payload}.{signature}"),
        ),
        ("twice", format!("{good}{good}")),
        ("a padded header", format!("{header}=.{payload}.{signature}")),
        ("a padded signature", format!("{good}=")),
        ("cut by one", cut.clone()),
        ("another last character", format!("{cut}{last}")),
        ("one character more", format!("{good}A")),
        ("a space within", format!("{header}. {payload}.{signature}")),
        ("a tab within", format!("{header}.\t{payload}.{signature}")),
        ("the other alphabet", format!("{header}.{payload}.+/{signature}")),
        ("quotes around", format!("\"{good}\"")),
        ("an escaped dot", good.replace('.', "%2E")),
        ("letters beyond ASCII", format!("{header}.{payload}.é{signature}")),
        ("a full-width dot", good.replace('.', "\u{ff0e}")),
        ("capitals", good.to_uppercase()),
        ("the signature of another", {
            let other = secret().token(None, &with("sub", "eve"));
            format!("{header}.{payload}.{}", other.rsplit_once('.').unwrap().1)
        }),
        ("the payload of another", {
            let other = part(with("sub", "eve").to_string());
            format!("{header}.{other}.{signature}")
        }),
        ("the header of another", {
            let other = part(r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#);
            format!("{other}.{payload}.{signature}")
        }),
        ("13 KiB of signature", format!("{good}{}", "A".repeat(13 * 1024))),
        ("15 KiB of payload, signed", secret().token(None, &with("x", "x".repeat(11 * 1024)))),
        ("200 KiB", format!("{good}{}", "A".repeat(200 * 1024))),
    ];
    let mut cases: Cases =
        cases.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    let mut bytes = good.clone().into_bytes();
    bytes[10] = 0xff;
    cases.push(("a byte that is no text".to_owned(), bytes));
    cases
}

/// Headers and payloads that are none, under a good signature.
pub(super) fn misformed() -> Cases {
    let payload = claims().to_string();
    let header = r#"{"alg":"HS256"}"#;
    let nested = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    let text = |name: &str| payload.replacen('{', &format!("{{{name},"), 1);
    let headers = [
        "",
        "null",
        "[]",
        "\"HS256\"",
        "{",
        "{}",
        "{alg:HS256}",
        "\u{feff}{\"alg\":\"HS256\"}",
        r#"{"alg":"HS256"} x"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","x":1,"x":2}"#,
    ];
    let payloads = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "1".to_owned(),
        "{}".to_owned(),
        format!("[{payload}]"),
        format!("\u{feff}{payload}"),
        format!("{payload}{payload}"),
        // Whichever of the two another reader would take.
        text(r#""exp":1"#),
        text(r#""aud":"other""#),
        text(r#""\u0065xp":1"#),
        text(r#""unknown":1,"unknown":2"#),
        payload.replace(r#""*":"admin""#, r#""*":"read","*":"admin""#),
        text(&format!(r#""deep":{nested}"#)),
        text(r#""nbf":NaN"#),
        text(r#""nbf":Infinity"#),
        text(r#""nbf":0x1"#),
        text(r#""half":"\ud800""#),
        // A token within the token.
        format!("\"{}\"", secret().token(None, &claims())),
    ];
    let sign =
        |header: &str, payload: &str| secret().token_of(&part(header), &part(payload)).into_bytes();
    let headers = headers.iter().map(|&text| (format!("header {text}"), sign(text, &payload)));
    let payloads = payloads.iter().map(|text| {
        let name: String = text.chars().take(60).collect();
        (format!("payload {name}"), sign(header, text))
    });
    let mut cases: Cases = headers.chain(payloads).collect();
    let bytes = secret().token_of(&part(header), &part([&b"{\"exp\":9\xff"[..], b"}"].concat()));
    cases.push(("payload that is no text".to_owned(), bytes.into_bytes()));
    cases
}

/// The algorithm or the key is another than the server's.
pub(super) fn confused(world: &World) -> Cases {
    let payload = part(claims().to_string());
    let header = |text: Value| part(text.to_string());
    let mut cases: Vec<(String, String)> = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS1", "dir", "A128KW"] {
        let header = header(json!({ "alg": alg }));
        cases.push((format!("alg {alg:?}, unsigned"), format!("{header}.{payload}.")));
        cases.push((format!("alg {alg:?}"), secret().token_of(&header, &payload)));
    }
    for alg in [Value::Null, json!(1), json!(["HS256"]), json!({ "a": 1 }), json!(true)] {
        let header = header(json!({ "alg": alg }));
        cases.push((format!("alg {alg}"), secret().token_of(&header, &payload)));
    }
    // A public key as a secret, in every form somebody may have it.
    for (name, key) in [
        ("the RSA key as PEM", world.rsa.pem().into_bytes()),
        ("the RSA key as PEM without the last line end", world.rsa.pem().trim_end().into()),
        ("the RSA key as DER", world.rsa.der()),
        ("the P-256 key as DER", world.p256.der()),
        ("the P-256 key as PEM", world.p256.pem().into_bytes()),
        ("the P-256 key as JSON", world.p256.jwk("ec").to_string().into_bytes()),
        ("the Ed25519 key as DER", world.ed.der()),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 32]),
        ("half the secret", SECRET.as_bytes()[..16].to_vec()),
    ] {
        let key = SigningKey::Secret(key);
        for kid in [None, Some("ec"), Some("ed")] {
            cases.push((format!("HS256 with {name}, kid {kid:?}"), key.token(kid, &claims())));
        }
    }
    let bytes = SECRET.as_bytes().to_vec();
    let others = [
        ("HS384", SigningKey::Secret384(bytes.clone()), None),
        ("HS512", SigningKey::Secret512(bytes), None),
        ("another RSA key", SigningKey::rsa(), None),
        ("another P-256 key", SigningKey::p256(), Some("ec")),
        ("another Ed25519 key", SigningKey::ed25519(), Some("ed")),
        ("P-384", SigningKey::p384(), None),
        ("P-384 under the name of the P-256 key", SigningKey::p384(), Some("ec")),
        ("an unknown name", SigningKey::p256(), Some("unknown")),
    ];
    cases.extend(others.map(|(name, key, kid)| (name.to_owned(), key.token(kid, &claims()))));
    let of = |key: &SigningKey, alg: &str, kid: &str| {
        key.token_of(&header(json!({ "alg": alg, "kid": kid })), &payload)
    };
    let unnamed =
        |key: &SigningKey, alg: &str| key.token_of(&header(json!({ "alg": alg })), &payload);
    let zeros = |alg: &str, kid: &str, bytes: usize| {
        let header = header(json!({ "alg": alg, "kid": kid }));
        format!("{header}.{payload}.{}", part(vec![0; bytes]))
    };
    let named = [
        ("the RSA key with the other padding", unnamed(&world.rsa, "PS256")),
        ("the RSA key for RS512", unnamed(&world.rsa, "RS512")),
        ("the RSA key for ES256", unnamed(&world.rsa, "ES256")),
        ("a secret for RS256", unnamed(&secret(), "RS256")),
        ("a secret for ES256", of(&secret(), "ES256", "ec")),
        ("a secret under the name of a public key", secret().token(Some("ec"), &claims())),
        ("the P-256 key under the other's name", of(&world.p256, "ES256", "ed")),
        ("the Ed25519 key under the other's name", of(&world.ed, "EdDSA", "ec")),
        ("the RSA key under the name of another", of(&world.rsa, "RS256", "ec")),
        ("the P-256 key for ES384", of(&world.p256, "ES384", "ec")),
        ("a signature of zeros, ES256", zeros("ES256", "ec", 64)),
        ("a signature of zeros, EdDSA", zeros("EdDSA", "ed", 64)),
        ("a signature of zeros, RS256", zeros("RS256", "", 256)),
        ("a signature of zeros, HS256", zeros("HS256", "", 32)),
        ("no signature, ES256", zeros("ES256", "ec", 0)),
        ("an ES256 signature in DER", zeros("ES256", "ec", 72)),
    ];
    cases.extend(named.map(|(name, token)| (name.to_owned(), token)));
    cases.into_iter().map(|(name, token)| (name, token.into_bytes())).collect()
}

/// Headers that bring a key, or change what the rest means.
pub(super) fn header_tricks() -> Cases {
    let mallory = SigningKey::p256();
    let payload = part(claims().to_string());
    let extras = [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIB"])),
        ("jwk", mallory.jwk("ec")),
        ("jwk", json!(null)),
        ("typ", json!("logout+jwt")),
        ("typ", json!("JWE")),
        ("typ", json!("")),
        ("typ", json!(1)),
        ("kid", json!(1)),
        ("kid", json!(null)),
        ("kid", json!(["ec"])),
        ("kid", json!("k".repeat(10 * 1024))),
        ("kid", json!("k".repeat(257))),
        ("x", json!(vec![0; 1_000])),
    ];
    let mut cases: Cases = Vec::new();
    for (name, value) in &extras {
        let mut header = json!({ "alg": "HS256" });
        header[*name] = value.clone();
        let token = secret().token_of(&part(header.to_string()), &payload);
        let value: String = value.to_string().chars().take(40).collect();
        cases.push((format!("{name}: {value}"), token.into_bytes()));
    }
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "ec' OR '1'='1",
        "ec\0",
        "EC",
        " ec",
        "",
        "é",
        "http://evil.example/keys",
        "|/bin/sh -c id",
        "{{7*7}}",
        "keys.json",
        "__proto__",
        "0",
    ] {
        let token = mallory.token(Some(kid), &claims());
        cases.push((format!("kid {kid:?}, signed by somebody"), token.into_bytes()));
    }
    let mut own = json!({ "alg": "ES256", "kid": "ec" });
    own["jwk"] = mallory.jwk("ec");
    cases.push((
        "a key that it brings itself".to_owned(),
        mallory.token_of(&part(own.to_string()), &payload).into_bytes(),
    ));
    cases
}

/// Claims that are wrong, under a good signature.
pub(super) fn bad_claims() -> Cases {
    let now = unix_now();
    let mut cases: Vec<(String, Value)> = Vec::new();
    for name in ["exp", "iss", "aud", "access"] {
        cases.push((format!("no {name}"), without(name)));
    }
    for exp in [
        json!(now - 31),
        json!(0),
        json!(1),
        json!(-1),
        json!(-1.0e300),
        json!(1.0e300),
        json!(now as f64 + 60.5),
        json!((now + 60) as f64),
        json!(u64::MAX),
        json!(i64::MAX),
        json!((now + 60) * 1_000),
        json!((now + 60).to_string()),
        json!(format!("{}s", now + 60)),
        json!(null),
        json!(true),
        json!([now + 60]),
        json!({ "exp": now + 60 }),
        json!(""),
    ] {
        cases.push((format!("exp {exp}"), with("exp", exp)));
    }
    for nbf in [
        json!(now + 100),
        json!(u64::MAX),
        json!((now - 60) * 1_000),
        json!(-1),
        json!("0"),
        json!(0.5),
        json!(true),
        json!([0]),
    ] {
        cases.push((format!("nbf {nbf}"), with("nbf", nbf)));
    }
    cases.extend(bad_addressees());
    cases.into_iter().map(|(name, claims)| (name, secret().token(None, &claims).into())).collect()
}

fn bad_addressees() -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for aud in [
        json!("Syncline"),
        json!("syncline "),
        json!("sync"),
        json!(""),
        json!([]),
        json!(["x"]),
        json!([["syncline"]]),
        json!(1),
        json!(null),
        json!({ "syncline": 1 }),
        json!("*"),
    ] {
        cases.push((format!("aud {aud}"), with("aud", aud)));
    }
    for iss in [
        json!("https://idp.example"),
        json!("https://idp.example/x"),
        json!("HTTPS://IDP.EXAMPLE/"),
        json!("http://idp.example/"),
        json!(""),
        json!([ISSUER]),
        json!(null),
        json!(1),
    ] {
        cases.push((format!("iss {iss}"), with("iss", iss)));
    }
    for access in [
        json!("admin"),
        json!(["*"]),
        json!({ "*": "root" }),
        json!({ "*": "Admin" }),
        json!(null),
        json!({ "*": 2 }),
        json!({ "*": ["admin"] }),
        json!({ "*": null }),
        json!(true),
        json!({}),
        json!({ "no*": "admin" }),
        json!({ "**": "admin" }),
        json!({ "": "admin" }),
    ] {
        cases.push((format!("access {access}"), with("access", access)));
    }
    for presence in [json!("everyone"), json!(1), json!(null), json!({ "*": "Hidden" })] {
        cases.push((format!("presence {presence}"), with("presence", presence)));
    }
    for (name, value) in [("sub", json!(1)), ("sub", json!(["ada"])), ("name", json!({}))] {
        cases.push((format!("{name} {value}"), with(name, value)));
    }
    cases
}
