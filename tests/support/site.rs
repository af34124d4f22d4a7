//! A gateway that is known to AWS by its device certificate, and the provider that gives it credentials for that.

use std::{fs, os::unix::fs::PermissionsExt};

use toml::{Table, Value};

use super::{
    certificates::Authority,
    gateway::{Gateway, Plan},
    iot::{HOST, Provider},
};

/// What stands around a gateway with a device certificate.
pub struct Site {
    /// Who gives credentials.
    pub provider: Provider,
    own: Authority,
    /// Who signs the certificates of devices.
    pub devices: Authority,
}

impl Site {
    /// With a provider that runs.
    pub async fn new() -> Self {
        let (own, devices) = (Authority::new(), Authority::new());
        Self { provider: Provider::start(&own, &devices).await, own, devices }
    }

    /// A gateway that asks it.
    pub fn plan(&self) -> Plan {
        let pins = Table::from_iter([(HOST.to_owned(), Value::from(vec!["127.0.0.1"]))]);
        let at = |key: &str| format!("destinations.cloud.credentials.{key}");
        Gateway::new()
            .set("buffer.hold", "50ms")
            .set("destinations.cloud.resolve", pins)
            .set(&at("kind"), "iot")
            .set(&at("endpoint"), self.provider.url())
            .set(&at("role_alias"), "gateway")
            .set(&at("thing_name"), "{device.id}")
            .set(&at("ca"), "{dir}/root.pem")
            .set(&at("cert"), "{dir}/device.pem")
            .set(&at("key"), "{dir}/device.key")
    }

    /// With a certificate of ours.
    pub async fn installs(&self, plan: Plan) -> Gateway {
        let gateway = plan.installs().await;
        fs::write(gateway.agent.dir().join("root.pem"), self.own.pem()).expect("the temp dir can be written");
        put_pair(&gateway, &self.devices.client("gw-1"));
        gateway
    }
}

/// Somebody puts a certificate and its key in their place.
pub fn put_pair(gateway: &Gateway, (certificate, key): &(String, String)) {
    fs::write(gateway.agent.dir().join("device.pem"), certificate).expect("the temp dir can be written");
    secret_file(gateway, "device.key", key);
}

/// A file in the gateway's folder that nobody else can read.
pub fn secret_file(gateway: &Gateway, name: &str, content: &str) {
    let path = gateway.agent.dir().join(name);
    fs::write(&path, content).expect("the temp dir can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}
