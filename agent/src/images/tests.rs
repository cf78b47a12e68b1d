use std::sync::Mutex as StdMutex;

use k8s_openapi::ByteString;

use super::*;
use crate::runtime::fake::FakeRuntime;

fn container(image: &str, policy: &str) -> Container {
    let json = format!(r#"{{"name":"c","image":"{image}","imagePullPolicy":"{policy}"}}"#);
    serde_json::from_str(&json).unwrap()
}

fn parallel(max: Option<usize>) -> ImagesConfig {
    ImagesConfig {
        serialize: max == Some(1),
        max_parallel: max,
        qps: 0.0,
        burst: 0,
        credential_dirs: Vec::new(),
    }
}

/// The outcome and the events as `Reason message`.
async fn ensure(
    images: &Images,
    container: &Container,
    secrets: &[Arc<Secret>],
) -> (Result<ImageRef, ImageError>, Vec<String>) {
    let events = StdMutex::new(Vec::new());
    let notify = |event: ImageEvent| {
        events
            .lock()
            .unwrap()
            .push(format!("{} {}", event.reason, event.message))
    };
    let request = ImageRequest {
        container,
        secrets,
        sandbox: None,
    };
    let outcome = images.ensure(request, &notify).await;
    (outcome, events.into_inner().unwrap())
}

#[tokio::test]
async fn a_present_image_needs_one_look_then_none() {
    let fake = FakeRuntime::start().await;
    fake.model().add_image("busybox:1", Some(1000));
    let images = Images::new(fake.connect(), parallel(None));
    for _ in 0..3 {
        let (image, events) = ensure(&images, &container("busybox:1", "IfNotPresent"), &[]).await;
        assert_eq!(
            image.unwrap(),
            ImageRef {
                id: "sha256:busybox:1".into(),
                user: ImageUser::Uid(1000)
            }
        );
        assert_eq!(
            events,
            [
                "Pulled Container image \"busybox:1\" already present on machine and can be accessed by the pod"
            ]
        );
    }
    assert_eq!(fake.model().image_status_calls, 1);
    assert_eq!(fake.model().pulls.len(), 0);
    images.forget("busybox:1");
    ensure(&images, &container("busybox:1", "IfNotPresent"), &[])
        .await
        .0
        .unwrap();
    assert_eq!(fake.model().image_status_calls, 2);
}

#[tokio::test]
async fn an_absent_image_is_pulled_and_an_always_one_every_time() {
    let fake = FakeRuntime::start().await;
    let images = Images::new(fake.connect(), parallel(None));
    let (image, events) = ensure(&images, &container("busybox", "IfNotPresent"), &[]).await;
    assert_eq!(image.unwrap().id, "sha256:busybox:latest");
    assert_eq!(events[0], "Pulling Pulling image \"busybox\"");
    assert!(
        events[1].starts_with("Pulled Successfully pulled image \"busybox\" in "),
        "{}",
        events[1]
    );
    assert!(
        events[1].ends_with(" including waiting). Image size: 1000 bytes."),
        "{}",
        events[1]
    );
    ensure(&images, &container("busybox", "Always"), &[])
        .await
        .0
        .unwrap();
    assert_eq!(fake.model().pulls.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_had_says_why() {
    let fake = FakeRuntime::start().await;
    fake.model()
        .pull_errors
        .insert("no:1".into(), "not found: no such image".into());
    fake.model()
        .pull_errors
        .insert("gone:1".into(), "RegistryUnavailable: i/o timeout".into());
    let images = Images::new(fake.connect(), parallel(None));

    let (outcome, events) = ensure(&images, &container("no:1", "IfNotPresent"), &[]).await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.reason.as_str(), error.message.as_str()),
        ("ErrImagePull", "not found: no such image")
    );
    assert_eq!(
        events[1..],
        [
            "Failed Failed to pull image \"no:1\": not found: no such image",
            "Failed Error: ErrImagePull"
        ]
    );

    let error = ensure(&images, &container("gone:1", "IfNotPresent"), &[])
        .await
        .0
        .unwrap_err();
    assert_eq!(error.reason.as_str(), "RegistryUnavailable");
    assert_eq!(
        error.message,
        "image pull failed for gone:1 because the registry is unavailable: i/o timeout"
    );

    let (outcome, events) = ensure(&images, &container("x:1", "Never"), &[]).await;
    assert_eq!(outcome.unwrap_err().reason.as_str(), "ErrImageNeverPull");
    assert_eq!(
        events,
        [
            "ErrImageNeverPull Container image \"x:1\" is not present with pull policy of Never",
            "Failed Error: ErrImageNeverPull"
        ]
    );

    let error = ensure(&images, &container("a b", "Always"), &[])
        .await
        .0
        .unwrap_err();
    assert_eq!(
        (error.reason.as_str(), error.message.as_str()),
        (
            "InvalidImageName",
            "Failed to apply default image tag \"a b\": couldn't parse image name \"a b\": invalid reference format"
        )
    );
}

#[tokio::test]
async fn a_runtime_that_is_away_is_an_inspect_error() {
    let fake = FakeRuntime::start().await;
    let images = Images::new(fake.connect(), parallel(None));
    let _state = fake.stop().await;
    let error = ensure(&images, &container("busybox:1", "IfNotPresent"), &[])
        .await
        .0
        .unwrap_err();
    assert_eq!(error.reason.as_str(), "ImageInspectError");
}

#[tokio::test]
async fn credentials_are_tried_in_turn() {
    let fake = FakeRuntime::start().await;
    fake.model()
        .pull_errors
        .insert("r.example.com/a:1".into(), "401 Unauthorized".into());
    let images = Images::new(fake.connect(), parallel(None));
    let json = r#"{"auths":{"r.example.com/a":{"username":"bad","password":"x"},"r.example.com":{"username":"good","password":"x"}}}"#;
    let secret = Arc::new(Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(
            [(
                ".dockerconfigjson".to_owned(),
                ByteString(json.as_bytes().to_vec()),
            )]
            .into(),
        ),
        ..Secret::default()
    });
    ensure(
        &images,
        &container("r.example.com/a:1", "IfNotPresent"),
        &[secret],
    )
    .await
    .0
    .unwrap();
    let users: Vec<_> = fake.model().pulls.iter().map(|(_, user)| user.clone()).collect();
    assert_eq!(users, [Some("bad".to_owned()), Some("good".to_owned())]);
}

/// Starts one pull for each image, waits until `expected` of them run, lets them end; returns the most at a time.
async fn pull_all(names: &[&'static str], max: Option<usize>, expected: usize) -> (usize, usize) {
    let fake = FakeRuntime::start().await;
    let images = Images::new(fake.connect(), parallel(max));
    fake.hold_pulls(true);
    let tasks: Vec<_> = names
        .iter()
        .map(|name| {
            let (images, name) = (images.clone(), *name);
            tokio::spawn(async move {
                ensure(&images, &container(name, "Always"), &[])
                    .await
                    .0
                    .map(|_| ())
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fake.model().running_pulls < expected && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    fake.hold_pulls(false);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let model = fake.model();
    (model.pulls.len(), model.most_running_pulls)
}

#[tokio::test]
async fn pulls_of_one_image_are_shared_and_others_bounded() {
    assert_eq!(pull_all(&["a:1", "a:1", "a:1"], None, 1).await, (1, 1));
    assert_eq!(pull_all(&["a:1", "b:1", "c:1"], Some(1), 1).await, (3, 1));
    assert_eq!(pull_all(&["a:1", "b:1", "c:1"], Some(2), 2).await, (3, 2));
    assert_eq!(pull_all(&["a:1", "b:1", "c:1"], None, 3).await, (3, 3));
}

#[tokio::test]
async fn too_many_pulls_a_second_are_refused() {
    let fake = FakeRuntime::start().await;
    let images = Images::new(
        fake.connect(),
        ImagesConfig {
            qps: 0.001,
            burst: 1,
            ..parallel(None)
        },
    );
    ensure(&images, &container("a:1", "Always"), &[]).await.0.unwrap();
    let error = ensure(&images, &container("b:1", "Always"), &[])
        .await
        .0
        .unwrap_err();
    assert_eq!(error.message, "pull QPS exceeded");
}
