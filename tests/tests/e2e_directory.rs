//! A runtime directory that cannot be used, or holds what nobody can understand (FLT-19): Pontoon starts, or fails
//! with one line, and is never half there.

use std::fs;

use pontoon_tests::e2e::process::engine;
use pontoon_tests::e2e::{environment, leftovers, run_pontoon, sh, try_sh, wait_for};
use serde_json::Value;

const DIRECTORY: &str = "/run/user/pontoon";

fn status() -> Value {
    serde_json::from_str(&run_pontoon("status --json")).expect("JSON")
}

/// A file system of its own for the directory.
fn mount(options: &str) {
    sh(&format!(
        "mkdir -p -m 0700 {DIRECTORY} && mount -t tmpfs -o mode=0700,{options} none {DIRECTORY}"
    ));
}

fn unmount() {
    wait_for(
        || try_sh(&format!("umount {DIRECTORY}")).status.success(),
        "nobody to use it",
    );
}

/// What a command says that fails with one line, and leaves nothing.
fn refused_in_one_line(arguments: &str) -> String {
    let output = try_sh(&format!("{} {arguments}", environment()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    wait_for(|| leftovers().is_empty(), "everything to go");
    said
}

fn log() -> String {
    fs::read_to_string(format!("{DIRECTORY}/engine.log")).expect("the engine's log")
}

fn is_listed(name: &str) -> bool {
    let listed: Value = serde_json::from_str(&run_pontoon("ps -a --json")).expect("JSON");
    let listed = listed.as_array().expect("a list");
    listed.iter().any(|container| container["name"] == name)
}

fn kill_engine() {
    let before = engine();
    sh(&format!("kill -9 {before}"));
    wait_for(|| engine() != before, "another engine");
}

pontoon_tests::namespace_tests! {
    fn flt_19_a_directory_that_cannot_be_written_to {
        mount("ro");
        let said = refused_in_one_line("network create app");
        assert!(said.contains(DIRECTORY) && said.contains("Read-only file system"), "{said}");
        unmount();
        run_pontoon("network create app");
    }

    fn flt_19_a_directory_of_somebody_else {
        // Whoever may not give it away takes one that is another's.
        sh(&format!("mkdir -p -m 0700 {DIRECTORY} && (chown 1234 {DIRECTORY} || mount --bind /usr {DIRECTORY}) 2>&1"));
        let said = refused_in_one_line("network create app");
        assert!(said.contains("belongs to another user"), "{said}");
        sh(&format!("umount {DIRECTORY} || chown 0 {DIRECTORY}"));
        run_pontoon("network create app");
    }

    /// It serves, and says that it writes nothing down; what needs files is refused as a whole.
    fn flt_19_a_directory_without_room {
        mount("size=1m");
        try_sh(&format!("head -c 2M /dev/zero > {DIRECTORY}/other"));
        run_pontoon("network create app");
        let trouble = status()["trouble"].to_string();
        assert!(trouble.contains("state.json") && trouble.contains("No space left"), "{trouble}");
        assert!(run_pontoon("status").contains("not written down: "));
        let output = try_sh(&format!("{} run -d --name a --network app -- sleep 600", environment()));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("No space left"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        wait_for(|| !is_listed("a") && !sh("ps -eo comm").contains("sleep"), "nothing of it to be left");
        sh(&format!("rm {DIRECTORY}/other"));
        run_pontoon("run -d --name a --network app -- sleep 600");
        assert_eq!(status()["trouble"], Value::Null);
        kill_engine();
        run_pontoon("exec a -- ping -c1 -W5 172.18.0.1");
        run_pontoon("shutdown");
        unmount();
    }

    /// What it could not write down, the next engine does not know: it ends that, and keeps the rest.
    fn flt_19_a_directory_that_becomes_read_only {
        mount("size=4m");
        run_pontoon("run -d --name known -- sleep 600");
        // Files that are open for writing stay so.
        sh(&format!("mount --bind {DIRECTORY} {DIRECTORY} && mount -o remount,bind,ro {DIRECTORY}"));
        run_pontoon("publish known 8080:80");
        let trouble = status()["trouble"].to_string();
        assert!(trouble.contains("Read-only file system"), "{trouble}");
        kill_engine();
        assert!(is_listed("known"));
        wait_for(|| !sh("ss -Hlnt").contains(":8080 "), "the port to be free");
        run_pontoon("exec known -- ping -c1 -W5 172.17.0.1");
        sh(&format!("umount {DIRECTORY}"));
        run_pontoon("publish known 8080:80");
        assert_eq!(status()["trouble"], Value::Null);
        kill_engine();
        assert!(sh("ss -Hlnt").contains(":8080 "));
        run_pontoon("shutdown");
        unmount();
    }

    fn flt_19_a_state_that_nobody_can_understand {
        let texts = ["{\"schema\":999,\"what\":\"comes later\"}", "{\"schema\":1,\"keeper\":\"", "", "[]", "\0\0"];
        for (nth, text) in texts.iter().enumerate() {
            sh(&format!("mkdir -p -m 0700 {DIRECTORY}"));
            fs::write(format!("{DIRECTORY}/state.json"), text).expect("a writable directory");
            assert_eq!(run_pontoon("run --rm -p 8080:80 -- echo served"), "served\n");
            let aside = format!("{DIRECTORY}/state.json.damaged-{}", nth + 1);
            assert_eq!(fs::read_to_string(&aside).expect("it was set aside"), *text);
            assert!(log().contains(&aside), "{}", log());
            run_pontoon("shutdown");
            wait_for(|| leftovers().is_empty(), "everything to go");
        }
        assert!(log().contains("of schema 999"), "{}", log());
    }

    /// Anything that is no file.
    fn flt_19_a_state_that_cannot_be_read {
        sh(&format!("mkdir -p -m 0700 {DIRECTORY}/state.json/full"));
        assert_eq!(run_pontoon("run --rm -- echo served"), "served\n");
        assert!(log().contains("state.json.damaged-1"), "{}", log());
        run_pontoon("shutdown");
        wait_for(|| leftovers().is_empty(), "everything to go");
    }
}
