//! `/flagz` as an object: in JSON and in YAML for those who name it, and in nothing else.

use gantry_tests::cluster::{NodeApi, Test};
use serde_json::Value;

#[test]
fn objects_are_for_those_who_name_them_exactly() {
    let test = Test::start("zpages");
    let api = NodeApi::of_api_server(&test, "node-1");
    let ask = |accept: &str| {
        let request = api.request("GET", "/flagz").header("Accept", accept);
        api.try_send(request).expect("an answer")
    };
    for media in ["application/json", "application/yaml"] {
        let named = format!("{media};g=config.k8s.io;v=v1beta1;as=Flagz");
        let answer = ask(&named);
        assert_eq!((answer.status, answer.content_type()), (200, named.as_str()));
        let object: Value = serde_saphyr::from_str(&answer.text()).expect("an object");
        assert_eq!(object["kind"], "Flagz", "{media}");
        assert_eq!(
            object["flags"]["config"], "/var/lib/kubelet/config.yaml",
            "{media}"
        );
    }
    for other in [
        "application/json",
        "application/cbor;g=config.k8s.io;v=v1beta1;as=Flagz",
    ] {
        let refused = ask(other);
        assert_eq!(
            (refused.status, refused.content_type()),
            (406, "application/json")
        );
        assert_eq!(refused.json()["reason"], "NotAcceptable");
    }
}
