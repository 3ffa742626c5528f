//! Docker's `--network` grammar: a name, or `name=NAME,alias=A,ip=ADDRESS,mac-address=M`.

use super::Invalid;
use super::api::{EndpointSpec, NetworkMode};

const FIELD: &str = "networks";

/// Reads one `--network` argument.
///
/// # Errors
/// A part has no value or is not known, or the network is not named.
pub fn parse(text: &str) -> Result<EndpointSpec, Invalid> {
    let mut place = EndpointSpec::default();
    if !text.contains('=') {
        place.network = text.to_owned();
        return Ok(place);
    }
    for part in text.split(',') {
        let shown = part.escape_default();
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| Invalid::new(FIELD, format!("invalid field {shown}")))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => place.network = value.to_owned(),
            "alias" => place.aliases.push(value.to_owned()),
            "ip" => {
                let wrong = |_| Invalid::new(FIELD, format!("{shown}: invalid ip address"));
                place.ip = Some(value.parse().map_err(wrong)?);
            }
            "mac-address" => place.mac = Some(value.to_owned()),
            _ => return Err(Invalid::new(FIELD, format!("invalid field key {shown}"))),
        }
    }
    if place.network.is_empty() {
        return Err(Invalid::new(FIELD, "network name/ID is not specified"));
    }
    Ok(place)
}

/// Joins what was said with `--network` and what options say of the first of these networks.
///
/// # Errors
/// Something is said both ways, or a network is named twice.
pub fn join(
    networks: &[String],
    first: EndpointSpec,
) -> Result<(NetworkMode, Vec<EndpointSpec>), Invalid> {
    let parsed: Result<Vec<_>, _> = networks.iter().map(|text| parse(text)).collect();
    let mut places = parsed?;
    if let Some(mode) = places.iter().find_map(mode) {
        if let Some(place) = places.first_mut() {
            fill(place, first)?;
        }
        check_alone(&places)?;
        return Ok((mode, Vec::new()));
    }
    for (nth, place) in places.iter().enumerate() {
        if places[..nth].iter().any(|p| p.network == place.network) {
            let shown = place.network.escape_default();
            let what = format!("network \"{shown}\" is specified multiple times");
            return Err(Invalid::new(FIELD, what));
        }
    }
    if let Some(place) = places.first_mut() {
        fill(place, first)?;
    }
    Ok((NetworkMode::Own, places))
}

/// What a name stands for that is no network's.
fn mode(place: &EndpointSpec) -> Option<NetworkMode> {
    match place.network.as_str() {
        "none" => Some(NetworkMode::Own),
        "host" => Some(NetworkMode::Host),
        other => other.strip_prefix("container:").map(|name| {
            let name = name.to_owned();
            NetworkMode::Container { name }
        }),
    }
}

/// Checks that nothing is said of a network where there is none.
fn check_alone(places: &[EndpointSpec]) -> Result<(), Invalid> {
    let conflict = |what: &str| Err(Invalid::new(FIELD, what));
    let [place] = places else {
        return conflict(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
    };
    if !place.aliases.is_empty() {
        let what = "network-scoped alias is supported only for containers in user defined networks";
        return conflict(what);
    }
    if place.ip.is_some() {
        return conflict("user specified IP address is supported on user defined networks only");
    }
    if place.mac.is_some() {
        return conflict("conflicting options: mac-address and the network mode.");
    }
    Ok(())
}

fn fill(place: &mut EndpointSpec, first: EndpointSpec) -> Result<(), Invalid> {
    let both = |option: &str, what: &str| {
        let what =
            format!("conflicting options: cannot specify both {option} and per-network {what}");
        Err(Invalid::new(FIELD, what))
    };
    if !first.aliases.is_empty() && !place.aliases.is_empty() {
        return both("--network-alias", "alias");
    }
    if first.ip.is_some() && place.ip.is_some() {
        return both("--ip", "IPv4 address");
    }
    if first.mac.is_some() && place.mac.is_some() {
        return both("--mac-address", "MAC address");
    }
    place.aliases.extend(first.aliases);
    place.ip = place.ip.or(first.ip);
    place.mac = place.mac.take().or(first.mac);
    place.ifname = first.ifname;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn both_forms_are_understood() {
        assert_eq!(parse("app").unwrap().network, "app");
        let long = "name=app,alias=db,alias=sql,ip=10.0.0.9,mac-address=02:42:0a:00:00:09";
        let place = parse(long).unwrap();
        assert_eq!(place.aliases, ["db", "sql"]);
        assert_eq!(place.ip, Some([10, 0, 0, 9].into()));
        assert_eq!(place.mac.as_deref(), Some("02:42:0a:00:00:09"));
        for (text, why) in [
            ("name=app,alias", "invalid field alias"),
            ("name=app,colour=red", "invalid field key colour=red"),
            ("alias=db", "network name/ID is not specified"),
            ("name=app,ip=1.2.3", "invalid ip address"),
        ] {
            assert!(parse(text).unwrap_err().reason.contains(why), "{text}");
        }
    }

    #[test]
    fn options_are_about_the_first_network() {
        let options = EndpointSpec {
            ip: Some([10, 0, 0, 9].into()),
            aliases: texts(&["db"]),
            ..EndpointSpec::default()
        };
        let (mode, places) =
            join(&texts(&["app", "name=back,ip=10.0.1.9"]), options.clone()).unwrap();
        assert_eq!(mode, NetworkMode::Own);
        assert_eq!(places[0].aliases, ["db"]);
        assert_eq!(
            (places[0].ip, places[1].ip),
            (options.ip, Some([10, 0, 1, 9].into()))
        );
        for wrong in [
            ["name=app,ip=10.0.0.8", "b"],
            ["name=app,alias=x", "b"],
            ["app", "app"],
        ] {
            assert!(join(&texts(&wrong), options.clone()).is_err(), "{wrong:?}");
        }
    }
    #[test]
    fn some_names_are_no_networks() {
        let plain = EndpointSpec::default();
        let read = |names: &[&str]| join(&texts(names), plain.clone());
        assert_eq!(read(&["none"]).unwrap(), (NetworkMode::Own, vec![]));
        assert_eq!(read(&["host"]).unwrap(), (NetworkMode::Host, vec![]));
        let name = "web".to_owned();
        let shared = NetworkMode::Container { name };
        assert_eq!(read(&["container:web"]).unwrap(), (shared, vec![]));
        for wrong in [["none", "app"], ["app", "host"], ["host", "container:web"]] {
            let reason = read(&wrong).unwrap_err().reason;
            assert!(
                reason.contains("non-user-defined network-modes"),
                "{reason}"
            );
        }
        for named in [
            "name=none,ip=10.0.0.9",
            "name=host,alias=x",
            "name=host,mac-address=x",
        ] {
            assert!(read(&[named]).is_err(), "{named}");
        }
    }
}
