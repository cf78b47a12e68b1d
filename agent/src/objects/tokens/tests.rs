//! Tokens against a model of the API server.

use serde_json::json;

use super::*;
use crate::objects::fake::{FakeApi, jwt};

fn wanted() -> TokenRef {
    TokenRef {
        namespace: "ns".to_owned(),
        service_account: "builder".to_owned(),
        pod_name: "pod".to_owned(),
        pod_uid: "uid".to_owned(),
        audience: "vault".to_owned(),
        expiration_secs: 3607,
    }
}

fn claims(issued_secs_ago: i64, life_secs: i64, uid: &str) -> String {
    let issued = Timestamp::now().as_second() - issued_secs_ago;
    jwt(&json!({
        "iat": issued, "exp": issued + life_secs, "aud": ["vault"],
        "kubernetes.io": {"pod": {"uid": uid}, "serviceaccount": {"name": "builder"}},
    }))
}

#[tokio::test]
async fn a_token_is_asked_for_once_per_pod() {
    let api = FakeApi::default();
    let tokens = Tokens::new(api.client());
    let first = tokens.get(&wanted()).await.unwrap();
    assert_eq!(tokens.get(&wanted()).await.unwrap().expose(), first.expose());
    assert_eq!(
        api.requests("POST /api/v1/namespaces/ns/serviceaccounts/builder/token"),
        1
    );
    let life = first.refresh_at.duration_since(Timestamp::now()).as_secs();
    assert!((2870..2890).contains(&life), "80 % of 3607 s, not {life}");
    assert!(
        parse(&wanted(), first.expose()).is_some(),
        "bound to the pod, for the audience"
    );
    tokens
        .get(&TokenRef {
            pod_uid: "other".to_owned(),
            ..wanted()
        })
        .await
        .unwrap();
    tokens.forget("uid");
    tokens.get(&wanted()).await.unwrap();
    assert_eq!(api.requests("POST"), 3);
}

#[tokio::test]
async fn an_adopted_token_saves_the_request_only_when_it_is_the_right_one_and_fresh() {
    let cases = [
        (claims(60, 3607, "uid"), 0, "fresh"),
        (claims(3000, 3607, "uid"), 1, "older than 80 % of its life"),
        (claims(60, 3607, "other"), 1, "of another pod"),
        ("no token".to_owned(), 1, "garbage"),
    ];
    for (text, requests, case) in cases {
        let api = FakeApi::default();
        let tokens = Tokens::new(api.client());
        tokens.adopt(&wanted(), &text);
        tokens.get(&wanted()).await.unwrap();
        assert_eq!(api.requests("POST"), requests, "{case}");
    }
}

#[tokio::test]
async fn a_valid_token_outlives_a_failing_api_server() {
    let api = FakeApi::default();
    let tokens = Tokens::new(api.client());
    let issued = Timestamp::now() - Duration::from_secs(3000);
    let old = Token::new("old", issued, issued + Duration::from_secs(3607));
    tokens.lock().insert(wanted(), old);
    api.fail(true);
    let kept = tokens.get(&wanted()).await.unwrap();
    assert_eq!(kept.expose(), "old");
    assert!(
        kept.refresh_at > Timestamp::now(),
        "tried again later, not at once"
    );
    api.fail(false);
    assert_ne!(tokens.get(&wanted()).await.unwrap().expose(), "old");
}

#[tokio::test]
async fn without_a_token_a_failing_api_server_is_an_error() {
    let api = FakeApi::default();
    api.fail(true);
    let error = Tokens::new(api.client()).get(&wanted()).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to fetch token");
}

#[test]
fn a_token_lives_at_most_a_day_and_is_never_shown() {
    let now = Timestamp::now();
    let token = Token::new("very secret", now, now + Duration::from_secs(90 * 24 * 3600));
    assert_eq!(token.refresh_at, now + MAX_AGE);
    assert!(!format!("{token:?}").contains("secret"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_token_or_not(text: String, claims in "\\{\"iat\": -?[0-9]{0,20}, \"exp\": [0-9]{0,20}\\}|.{0,40}") {
        let _ = parse(&wanted(), &text);
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let _ = parse(&wanted(), &format!("x.{payload}.y"));
    }
}
