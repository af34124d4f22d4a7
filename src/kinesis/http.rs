//! The HTTP client of everything that we ask of the cloud: guarded addresses, the roots that we believe, and a proxy where one is set.
//!
//! The SDK's own builder knows neither the guard's look at a URL nor a proxy, so its connectors are put together here.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        dns::SharedDnsResolver,
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
        orchestrator::HttpRequest,
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
};
use http::Uri;

use super::guard::Guard;

/// What a client is made of.
pub(super) struct Http {
    /// Judges addresses in URLs.
    pub(super) guard: Guard,
    /// Looks names up; it asks `guard`.
    pub(super) resolver: SharedDnsResolver,
    /// Whom TLS believes.
    pub(super) tls: TlsContext,
    /// What connections go through.
    pub(super) proxy: Option<ProxyConfig>,
}

impl Http {
    /// The client, whose connections live from request to request.
    pub(super) fn client(self) -> SharedHttpClient {
        SharedHttpClient::new(Pool { http: self, connectors: Mutex::default() })
    }

    fn connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let mut builder = Connector::builder()
            .connector_settings(settings.clone())
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(self.tls.clone());
        builder.set_sleep_impl(components.sleep_impl());
        builder.set_proxy_config(self.proxy.clone());
        let connector = builder.build_with_resolver(self.resolver.clone());
        SharedHttpConnector::new(Guarded { connector: SharedHttpConnector::new(connector), guard: self.guard.clone() })
    }
}

/// Connectors by their timeouts, of which there are as many as clients: one or two.
struct Pool {
    http: Http,
    connectors: Mutex<Vec<(Timeouts, SharedHttpConnector)>>,
}

type Timeouts = (Option<Duration>, Option<Duration>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Pool").field("guard", &self.http.guard).finish_non_exhaustive()
    }
}

impl HttpClient for Pool {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = connectors.iter().find(|(known, _)| *known == timeouts) {
            return connector.clone();
        }
        let connector = self.http.connector(settings, components);
        connectors.push((timeouts, connector.clone()));
        connector
    }
}

/// Looks at the URL before the connection: an address in it is looked up by nobody, so the resolver never sees it.
#[derive(Debug)]
struct Guarded {
    connector: SharedHttpConnector,
    guard: Guard,
}

impl Guarded {
    fn judge(&self, url: &str) -> Result<(), BoxError> {
        let url: Uri = url.parse()?;
        let host = url.host().ok_or("the request names no host")?;
        Ok(self.guard.judge_literal(host)?)
    }
}

impl HttpConnector for Guarded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.judge(request.uri()) {
            Ok(()) => self.connector.call(request),
            Err(refused) => HttpConnectorFuture::ready(Err(ConnectorError::io(refused))),
        }
    }
}
