//! What the API calls a field, and the command line an option.

use pontoon_engine::control::Invalid;
use pontoon_engine::control::api::Request;

/// Fields and options; a field that is not here is called the same.
const OPTIONS: &[(&str, &str)] = &[
    ("aliases", "--network-alias"),
    ("aux_addresses", "--aux-address"),
    ("gateway", "--gateway"),
    ("host_loopback", "--host-loopback"),
    ("host_port", "--host-port"),
    ("hostname", "--hostname"),
    ("ifname", "--ifname"),
    ("internal", "--internal"),
    ("ip", "--ip"),
    ("ip_range", "--ip-range"),
    ("labels", "--label"),
    ("mac", "--mac-address"),
    ("mode", "--network"),
    ("mtu", "--mtu"),
    ("name", "--name"),
    ("network", "--network"),
    ("networks", "--network"),
    ("offload", "--offload"),
    ("options", "--opt"),
    ("publish", "--publish"),
    ("servers", "--dns"),
    ("subnet", "--subnet"),
    ("uplink", "--uplink"),
];

/// What the user is told of an error: the option that is wrong, where it is one, and why.
pub(crate) fn told(error: Invalid, request: Option<&Request>) -> String {
    let option = option(&error.field, request).to_owned();
    error.of(&option).to_string()
}

fn option<'a>(field: &'a str, request: Option<&Request>) -> &'a str {
    let same = OPTIONS.iter().find(|(known, _)| *known == field);
    match (field, request) {
        ("name", Some(Request::CreateNetwork(_))) => "NETWORK",
        ("aliases", Some(Request::Connect { .. })) => "--alias",
        ("port" | "ports", _) => "PORT",
        _ => same.map_or(field, |(_, option)| option),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use pontoon_engine::control::api::EndpointSpec;

    use super::*;
    use crate::args::Cli;

    /// Every option of a command and those below it.
    fn options_of(command: &clap::Command, options: &mut Vec<String>) {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        options.extend(longs.map(|long| format!("--{long}")));
        let below = command.get_subcommands();
        below.for_each(|command| options_of(command, options));
    }

    #[test]
    fn what_is_told_is_an_option_that_there_is() {
        let mut options = Vec::new();
        options_of(&Cli::command(), &mut options);
        for (field, option) in OPTIONS {
            assert!(options.iter().any(|o| o == option), "{field}: {option}");
        }
    }

    #[test]
    fn a_field_is_told_as_it_was_said() {
        let create = Request::CreateNetwork(Default::default());
        let connect = Request::Connect {
            name: "c".to_owned(),
            endpoint: EndpointSpec::default(),
        };
        for (field, request, expected) in [
            ("subnet", None, "--subnet: why"),
            ("name", None, "--name: why"),
            ("name", Some(&create), "NETWORK: why"),
            ("aliases", None, "--network-alias: why"),
            ("aliases", Some(&connect), "--alias: why"),
            ("ports", None, "PORT: why"),
            ("--instance", None, "--instance: why"),
            ("", None, "why"),
        ] {
            assert_eq!(told(Invalid::new(field, "why"), request), expected);
        }
    }
}
