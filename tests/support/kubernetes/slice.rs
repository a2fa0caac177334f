//! An EndpointSlice as its controller writes it.

use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Slice {
    namespace: String,
    service: String,
    name: String,
    address_type: &'static str,
    ports: Vec<Value>,
    endpoints: Vec<Value>,
}

impl Slice {
    /// One of the Service `namespace/name`.
    #[track_caller]
    pub fn of(service: &str, name: &str) -> Self {
        let (namespace, service) = service.split_once('/').expect("namespace/name");
        Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            name: name.to_owned(),
            address_type: "IPv4",
            ports: vec![],
            endpoints: vec![],
        }
    }

    pub fn ipv6(mut self) -> Self {
        self.address_type = "IPv6";
        self
    }

    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push(json!({"name": name, "port": number, "protocol": "TCP"}));
        self
    }

    pub fn ready(self, address: &str) -> Self {
        self.with(address, json!({"ready": true, "serving": true, "terminating": false}))
    }

    pub fn unready(self, address: &str) -> Self {
        self.with(address, json!({"ready": false, "serving": false, "terminating": false}))
    }

    /// Told to end, and still there.
    pub fn terminating(self, address: &str) -> Self {
        self.with(address, json!({"ready": false, "serving": true, "terminating": true}))
    }

    /// Of the last endpoint.
    #[track_caller]
    pub fn zone(mut self, zone: &str) -> Self {
        self.endpoints.last_mut().expect("an endpoint")["zone"] = json!(zone);
        self
    }

    fn with(mut self, address: &str, conditions: Value) -> Self {
        let n = self.endpoints.len();
        self.endpoints.push(json!({
            "addresses": [address], "conditions": conditions, "nodeName": format!("node-{n}"),
            "targetRef": {"kind": "Pod", "namespace": self.namespace, "name": format!("{}-{n}", self.service)},
        }));
        self
    }
}

impl From<Slice> for Value {
    fn from(slice: Slice) -> Self {
        let Slice { namespace, service, name, address_type, ports, endpoints } = slice;
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "namespace": namespace, "generateName": format!("{service}-"),
                "labels": {
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": service,
                },
            },
            "addressType": address_type, "ports": ports, "endpoints": endpoints,
        })
    }
}
