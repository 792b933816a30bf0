//! Users: their passwords, tags and rights. All of a user is as declared: rights that somebody else gave it are taken.

use super::*;

impl Pass<'_> {
    /// Makes the broker have `user`.
    pub(super) async fn keep_user(&mut self, user: &WantedUser) -> Result<(), BrokerError> {
        let object = Object::User(user.name.clone());
        let password = match &user.login {
            Login::Token => None,
            Login::Password(password) => Some(password),
            Login::Missing(message) => {
                self.flaw(&object, "SecretMissing", message.clone());
                return Ok(());
            }
            Login::Unknown => return Ok(()),
        };
        let found = self.look(&object).await?;
        let hash = self.present_hash(&user.name, found.as_ref(), password).await;
        if hash.is_none() || !has_tags(found.as_ref(), &user.rights.tags) {
            let hash = match hash {
                Some(hash) => hash,
                None => new_hash(password).await.map_err(|error| BrokerError::Unusable(error.to_string()))?,
            };
            let mut body = json!({"tags": user.rights.tags.join(","), "password_hash": hash});
            if !hash.is_empty() {
                body["hashing_algorithm"] = password::ALGORITHM.into();
            }
            let answer = answered(self.api.call(Method::PUT, &object.path(), Some(&body)).await?)?;
            if !answer.status.is_success() {
                self.flaw(&object, "Refused", answer.reason());
                return Ok(());
            }
            if let Some(password) = password {
                self.memory.passwords.insert(user.name.clone(), (hash, password.clone()));
            }
            self.findings.written.push(object.to_string());
        }
        self.keep_permissions(&object, user).await?;
        self.keep_topic_permissions(&object, user).await
    }

    /// The hash that the broker has, if it is that of the password.
    async fn present_hash(&mut self, name: &str, found: Option<&Value>, password: Option<&Password>) -> Option<String> {
        let found = found?;
        let hash = found["password_hash"].as_str()?.to_owned();
        let Some(password) = password else { return hash.is_empty().then_some(hash) };
        if found["hashing_algorithm"] != password::ALGORITHM {
            return None;
        }
        if self.memory.passwords.get(name).is_some_and(|known| (&known.0, &known.1) == (&hash, password)) {
            return Some(hash);
        }
        let (candidate, secret) = (hash.clone(), password.clone());
        let is_it = tokio::task::spawn_blocking(move || password::is_hash_of(&candidate, &secret)).await;
        if !is_it.unwrap_or(false) {
            return None;
        }
        self.memory.passwords.insert(name.to_owned(), (hash.clone(), password.clone()));
        Some(hash)
    }

    async fn keep_permissions(&mut self, object: &Object, user: &WantedUser) -> Result<(), BrokerError> {
        let name = encoded(&user.name);
        let path = format!("{}/permissions?columns=vhost,configure,write,read", object.path());
        let found = list(answered(self.api.call(Method::GET, &path, None).await?)?);
        for permission in &user.rights.permissions {
            let wanted = json!(permission);
            if !found.contains(&wanted) {
                let path = format!("/api/permissions/{}/{name}", encoded(&permission.vhost));
                self.grant(object, &permission.vhost, &path, &wanted).await?;
            }
        }
        for extra in extra(&found, "vhost", user.rights.permissions.iter().map(|permission| permission.vhost.as_str()))
        {
            self.revoke(object, &format!("/api/permissions/{}/{name}", encoded(extra))).await?;
        }
        Ok(())
    }

    async fn keep_topic_permissions(&mut self, object: &Object, user: &WantedUser) -> Result<(), BrokerError> {
        let name = encoded(&user.name);
        let path = format!("{}/topic-permissions?columns=vhost,exchange,write,read", object.path());
        let found = list(answered(self.api.call(Method::GET, &path, None).await?)?);
        let place = |vhost: &str| format!("/api/topic-permissions/{}/{name}", encoded(vhost));
        for permission in &user.rights.topic_permissions {
            let wanted = json!(permission);
            if !found.contains(&wanted) {
                self.grant(object, &permission.vhost, &place(&permission.vhost), &wanted).await?;
            }
        }
        let is_wanted = |vhost: &str, exchange: &str| {
            user.rights.topic_permissions.iter().any(|wanted| wanted.vhost == vhost && wanted.exchange == exchange)
        };
        for shown in &found {
            let (Some(vhost), Some(exchange)) = (shown["vhost"].as_str(), shown["exchange"].as_str()) else { continue };
            if !is_wanted(vhost, exchange) {
                self.revoke(object, &format!("{}/{}", place(vhost), encoded(exchange))).await?;
            }
        }
        Ok(())
    }

    async fn grant(&mut self, object: &Object, vhost: &str, path: &str, body: &Value) -> Result<(), BrokerError> {
        let answer = answered(self.api.call(Method::PUT, path, Some(body)).await?)?;
        if answer.status.is_success() {
            self.findings.written.push(format!("rights of {object} in {vhost}"));
        } else if answer.reason() == "vhost_or_user_not_found" {
            let message = format!("virtual host {vhost} is not there: declare it in spec.topology.vhosts, or make it");
            self.flaw(object, "VirtualHostMissing", message);
        } else {
            self.flaw(object, "Refused", format!("rights in {vhost}: {}", answer.reason()));
        }
        Ok(())
    }

    async fn revoke(&mut self, object: &Object, path: &str) -> Result<(), BrokerError> {
        let answer = answered(self.api.call(Method::DELETE, path, None).await?)?;
        if answer.status.is_success() {
            self.findings.written.push(format!("rights of {object}"));
        }
        Ok(())
    }
}

/// Of a token's user: the empty hash, which is nobody's.
async fn new_hash(password: Option<&Password>) -> Result<String, password::HashError> {
    let Some(password) = password.cloned() else { return Ok(String::new()) };
    tokio::task::spawn_blocking(move || password::hash(&password)).await.unwrap_or(Err(password::HashError))
}

fn has_tags(found: Option<&Value>, wanted: &[String]) -> bool {
    let tags = found.and_then(|found| found["tags"].as_array());
    tags.is_some_and(|tags| tags.len() == wanted.len() && wanted.iter().all(|tag| tags.contains(&json!(tag))))
}

fn list(answer: Answer) -> Vec<Value> {
    match answer.body {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// The values of `field` that none of the wanted ones is.
fn extra<'f, 'w>(
    found: &'f [Value],
    field: &str,
    wanted: impl Iterator<Item = &'w str> + Clone,
) -> impl Iterator<Item = &'f str> {
    let names: Vec<&str> = found.iter().filter_map(|shown| shown[field].as_str()).collect();
    names.into_iter().filter(move |name| wanted.clone().all(|wanted| wanted != *name))
}
