//! The clients of docs/clients.md: generators accept the whole document and make few files, types are checked, and the
//! examples run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::schemathesis::python;
use crate::support::servers::program;
use crate::support::service::{Service, Setup};

const DOCUMENT: &str = include_str!("../../docs/clients.md");

/// The address in the documentation.
const ADDRESS: &str = "http://127.0.0.1:8080";

/// The most files of the Python client: two for each operation and schema would be many more.
const MOST_FILES: usize = 230;

/// The documented example in this language, for this service.
#[track_caller]
fn example(language: &str, service: &Service) -> String {
    let fence = format!("```{language}\n");
    let (_, rest) = DOCUMENT.split_once(&fence).expect("an example");
    let (code, _) = rest.split_once("```").expect("its end");
    assert_eq!(code.lines().count(), 5, "{code}");
    assert!(code.contains(ADDRESS), "{code}");
    code.replace(ADDRESS, &service.url())
}

/// Runs a command, which must succeed, and returns its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let ran = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let failed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {said}{failed}");
    said
}

fn service() -> Service {
    let service = Setup::new().start();
    let document = service.client().get("/openapi.json").text;
    fs::write(service.setup().folder().join("openapi.json"), document).expect("a file");
    service
}

/// The operations of the document.
fn operations(service: &Service) -> Vec<String> {
    let document = service.client().get("/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths
        .values()
        .flat_map(|item| item.as_object().expect("operations").values());
    operations
        .map(|operation| operation["operationId"].as_str().expect("an id").to_owned())
        .collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    found
}

#[test]
fn python_client_is_small_complete_and_likes() {
    let service = service();
    let folder = service.setup().folder();
    // Formatters are not part of the client.
    fs::write(folder.join("config.yaml"), "post_hooks: []\n").expect("a file");
    let generate = [
        "-m",
        "openapi_python_client",
        "generate",
        "--path",
        "openapi.json",
    ];
    let options = [
        "--meta",
        "none",
        "--config",
        "config.yaml",
        "--fail-on-warning",
    ];
    let mut command = python();
    command.current_dir(folder).args(generate).args(options);
    run(command.args(["--output-path", "likewise_client"]));

    let files = files(&folder.join("likewise_client"));
    let number = files.iter().filter(|name| name.ends_with(".py")).count();
    assert!(number <= MOST_FILES, "{number} files: {files:?}");
    for operation in operations(&service) {
        assert!(
            files.contains(&format!("{operation}.py")),
            "{operation} is missing"
        );
    }
    for schema in ["problem_code", "resource_type", "durability", "status"] {
        assert!(
            files.contains(&format!("{schema}.py")),
            "{schema} is missing"
        );
    }

    fs::write(folder.join("example.py"), example("python", &service)).expect("a file");
    assert_eq!(run(python().current_dir(folder).arg("example.py")), "1\n");
    assert!(service.client().read(42, 7).liked);
    // The older path, the metrics, a problem and a visitor's read.
    let more = r#"
from likewise_client import Client, models
from likewise_client.api.action import action_like
from likewise_client.api.health import metrics
from likewise_client.api.likes import like_video, read_like_of_video
client = Client(URL, headers={"X-User-Id": "43"})
body = models.LikeAction(video_id=7, action_type=models.LikeActionActionTypeType1.VALUE_1)
assert action_like.sync(client=client, body=body).data.like_count == 2
assert "likewise_likes_accepted_total" in metrics.sync(client=client)
problem = like_video.sync(0, client=client)
assert problem.code is models.ProblemCode.INVALID_RESOURCE_ID, problem
like = read_like_of_video.sync(7, client=Client(URL))
assert (like.resource_type, like.liked) == (models.ResourceType.VIDEO, None), like
"#;
    let more = format!("URL = {:?}\n{more}", service.url());
    run(python().current_dir(folder).args(["-c", &more]));
}

#[test]
fn typescript_client_is_type_checked_and_likes() {
    let service = service();
    let folder = service.setup().folder();
    let packages = program("LIKEWISE_TEST_TYPESCRIPT").join("node_modules");
    std::os::unix::fs::symlink(&packages, folder.join("node_modules")).expect("a link");
    let node = |script: &str| {
        let mut command = Command::new(program("LIKEWISE_TEST_NODE"));
        command.current_dir(folder).arg(script);
        command
    };
    let generator = "node_modules/openapi-typescript/bin/cli.js";
    run(node(generator).args(["openapi.json", "--output", "likewise.d.ts"]));

    let settings = r#"{"compilerOptions": {"strict": true, "noEmit": true, "module": "esnext",
        "moduleResolution": "bundler", "target": "es2024", "types": []}, "files": ["example.ts"]}"#;
    fs::write(folder.join("tsconfig.json"), settings).expect("a file");
    fs::write(folder.join("package.json"), r#"{"type": "module"}"#).expect("a file");
    let example = example("ts", &service);
    let check = |code: &str| {
        fs::write(folder.join("example.ts"), code).expect("a file");
        let mut command = node("node_modules/typescript/bin/tsc");
        let ran = command
            .args(["--noEmit", "--project", "."])
            .output()
            .expect("tsc starts");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        (ran.status.success(), said)
    };
    for (original, wrong) in [
        ("/v1/videos/{id}/like", "/v1/videos/{id}/likee"),
        ("{ id: 7 }", "{ id: \"seven\" }"),
        ("data.like_count", "data.likes"),
        ("error.code", "error.code === \"no_such_code\""),
    ] {
        assert!(example.contains(original), "{original}");
        let (is_valid, said) = check(&example.replace(original, wrong));
        assert!(!is_valid && said.contains("example.ts"), "{wrong}: {said}");
    }
    let (is_valid, said) = check(&example);
    assert!(is_valid, "{said}");
    assert_eq!(run(&mut node("example.ts")), "1\n");
    assert!(service.client().read(42, 7).liked);
}
