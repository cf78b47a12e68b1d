//! The gRPC health protocol, version 1 (`grpc.health.v1.Health/Check`), without TLS as the API demands.

use std::time::Duration;

use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::check::go_duration;

/// Serving, in `HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks once. The error is the message of the probe's failure, in the reference's words.
pub(super) async fn check(address: &str, service: &str, limit: Duration) -> Result<(), String> {
    let shown = go_duration(limit);
    match timeout(limit, ask(address, service)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "timeout: failed to connect service {address:?} within {shown}: context deadline exceeded"
        )),
    }
}

async fn ask(address: &str, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/1.36"))
        .map_err(|error| format!("error: failed to connect service at {address:?}: {error}"))?;
    let channel = endpoint.connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("error: failed to connect service at {address:?}: {cause}")
    })?;
    let status = call(channel, service)
        .await
        .map_err(|status| match status.code() {
            Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            code => {
                format!(
                    "error: health rpc probe failed: rpc error: code = {code:?} desc = {}",
                    status.message()
                )
            }
        })?;
    match status {
        SERVING => Ok(()),
        other => Err(format!(
            "service unhealthy (responded with {:?})",
            status_name(other)
        )),
    }
}

async fn call(channel: Channel, service: &str) -> Result<i32, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Question, Reply>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let question = tonic::Request::new(Question {
        service: service.to_owned(),
    });
    let reply = client.unary(question, path, codec).await?;
    Ok(reply.into_inner().status)
}

fn status_name(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}
