//! The image service of the fake.

use gantry_cri::v1;
use gantry_cri::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use super::State;

#[tonic::async_trait]
impl ImageService for State {
    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self.model.lock().unwrap().images.values().cloned().collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        r: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let name = r.into_inner().image.unwrap().image;
        let mut model = self.model.lock().unwrap();
        model.image_status_calls += 1;
        let image = model.images.get(&name).cloned();
        Ok(Response::new(v1::ImageStatusResponse {
            image,
            ..Default::default()
        }))
    }

    async fn pull_image(
        &self,
        r: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = r.into_inner();
        let name = request.image.unwrap().image;
        let user = request.auth.map(|auth| auth.username);
        {
            let mut model = self.model.lock().unwrap();
            model.pulls.push((name.clone(), user.clone()));
            model.running_pulls += 1;
            model.most_running_pulls = model.most_running_pulls.max(model.running_pulls);
        }
        let _ = self.pulls_may_end.subscribe().wait_for(|may| *may).await;
        let mut model = self.model.lock().unwrap();
        model.running_pulls -= 1;
        if let Some(message) = model
            .pull_errors
            .get(&name)
            .filter(|_| user.as_deref() != Some("good"))
        {
            return Err(Status::unknown(message.clone()));
        }
        model.add_image(&name, None);
        Ok(Response::new(v1::PullImageResponse {
            image_ref: format!("sha256:{name}"),
        }))
    }

    async fn remove_image(
        &self,
        r: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let name = r.into_inner().image.unwrap().image;
        self.model.lock().unwrap().images.remove(&name);
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        Err(Status::unimplemented("image_fs_info"))
    }
}
