//! AWS Secrets Manager, asked by its one call `GetSecretValue`.
//!
//! The official SDK would do this, and bring a second HTTP client and a copy of Secrets Manager's,
//! STS's and two more services' whole APIs: a minimal program of 4.6 MB with hyper and rustls grew
//! to 9.3 MB with it, and to 4.9 MB this way (release, stripped, x86-64). What is needed of it is the
//! signature, which `aws-sigv4` makes as the SDK does, and the default credential chain, which is in
//! this folder in the SDK's order: environment, profile, web identity, container, instance. Each
//! provider that is not set up is passed over; one that is set up and fails is a fault, and none
//! after it is tried, so that the gateway never acts for another than it was told.

mod answer;
mod call;
mod chain;
mod container;
mod document;
mod files;
mod instance;
pub(crate) mod keys;
mod pair;
mod process;
pub(crate) mod profile;
mod request;
mod role;
mod sts;
mod web_identity;

use std::time::SystemTime;

use bytes::Bytes;
use http::uri::Scheme;
use http_body_util::Full;

use self::answer::Refusal;
use self::call::Call;
use self::chain::Chain;
use self::sts::Sts;
use super::source::{Pending, Secret, Source, SourceError};
use crate::client::{Client, ClientError};
use crate::config::aws::SecretsManager as Settings;
use crate::disk::Disk;

/// A secret of AWS Secrets Manager: JSON with the user name and the password.
#[derive(Debug)]
pub(crate) struct SecretsManager {
    settings: Settings,
    client: Client<Full<Bytes>>,
    chain: Chain,
    disk: Disk,
}

impl SecretsManager {
    /// Asks nobody yet.
    ///
    /// # Errors
    ///
    /// When the system's roots of trust are needed and can't be read.
    pub(crate) fn new(settings: Settings) -> Result<Self, ClientError> {
        let client = Client::new(Some(&Scheme::HTTPS), settings.ca.clone(), settings.timeout)?;
        let sts = Sts { endpoint: settings.sts.clone(), region: settings.region.clone() };
        let chain = Chain::new(settings.chain.clone(), sts);
        Ok(Self { settings, client, chain, disk: Disk::default() })
    }

    async fn ask(&self) -> Result<Secret, SourceError> {
        let call = Call::new(&self.client, &self.disk, self.settings.timeout);
        let keys = self.chain.keys(&call).await?;
        let refused = match self.value(&call, &keys).await {
            Err(Refusal::Keys(error)) => error,
            answer => return answer.map_err(SourceError::from),
        };
        // They may have been taken back before their end; others are tried, the same ones are not.
        self.chain.forget();
        let others = self.chain.keys(&call).await?;
        if others == keys {
            return Err(refused);
        }
        self.value(&call, &others).await.map_err(SourceError::from)
    }

    async fn value(
        &self,
        call: &Call<'_>,
        keys: &aws_credential_types::Credentials,
    ) -> Result<Secret, Refusal> {
        let request = request::of_secret(&self.settings, keys, SystemTime::now())?;
        let exchanged = call.exchange("Secrets Manager", request).await?;
        answer::read(exchanged, &self.settings, SystemTime::now())
    }
}

impl Source for SecretsManager {
    fn name(&self) -> &'static str {
        "aws-secrets-manager"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        Box::pin(async move {
            let timeout = self.settings.timeout;
            tokio::time::timeout(timeout, self.ask()).await.unwrap_or_else(|_| {
                let timeout = humantime::format_duration(timeout);
                Err(SourceError::Unavailable(format!("AWS gave no secret within {timeout}")))
            })
        })
    }
}
