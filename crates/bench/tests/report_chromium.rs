//! The page in a real browser: headless Chromium, where it is installed. Without it the test says so and checks nothing.

#![expect(clippy::expect_used, reason = "a test's own browser and folder are expected to work")]

#[path = "support/synthetic.rs"]
mod synthetic;

use std::path::Path;
use std::process::Command;

use cotenant_bench::report::Report;
use cotenant_bench::summary::Summary;

/// Runs in a frame's place: loads the page in frames of two widths and writes what it sees there into the document.
const PROBE: &str = r#"<script>
window.addEventListener("load", () => {
  const svgs = [...document.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect());
  const result = {
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
    svgs: svgs.length,
    empty: svgs.filter((box) => !(box.width > 0 && box.height > 0)).length,
    requests: performance.getEntriesByType("resource").length,
    errors: window.problems,
    buttons: document.querySelectorAll(".legend button[aria-pressed=true]").length,
    hidden: (() => {
      document.querySelector(".legend button").click();
      const hidden = document.body.className;
      document.querySelector(".legend button").click();
      return hidden;
    })(),
  };
  parent.postMessage(JSON.stringify(result), "*");
});
</script>"#;

/// Counts errors and refused requests from the first line of the page on.
const WATCH: &str = r#"<head><script>
window.problems = 0;
addEventListener("error", () => { window.problems += 1; }, true);
addEventListener("securitypolicyviolation", () => { window.problems += 1; });
</script>"#;

/// Frames as wide as a phone and as a desk; each answers with one line.
const FRAMES: &str = r#"<!doctype html><meta charset="utf-8"><body><script>
addEventListener("message", (message) => {
  const line = document.createElement("pre");
  line.textContent = "RESULT " + message.data;
  document.body.append(line);
});
</script>
<iframe src="page.html" style="width:360px;height:800px;border:0"></iframe>
<iframe src="page.html" style="width:1200px;height:800px;border:0"></iframe>"#;

fn chromium() -> Option<&'static str> {
    let found = |name: &&str| ["/usr/bin", "/usr/local/bin"].iter().any(|folder| Path::new(folder).join(name).exists());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(found)
}

#[expect(clippy::disallowed_methods, reason = "this test reaps the one browser it starts")]
fn dump(browser: &str, folder: &Path) -> String {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", folder.join("frames.html").display()))
        .output()
        .expect("the browser starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn results(html: &str) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = html.replacen("<head>", WATCH, 1).replacen("</body>", &format!("{PROBE}</body>"), 1);
    std::fs::write(folder.path().join("page.html"), page).expect("write");
    std::fs::write(folder.path().join("frames.html"), FRAMES).expect("write");
    let Some(browser) = chromium() else { return Vec::new() };
    let dom = dump(browser, folder.path());
    let lines = dom.split("<pre>RESULT ").skip(1).filter_map(|rest| rest.split_once("</pre>"));
    lines.map(|(line, _)| serde_json::from_str(&line.replace("&quot;", "\"")).expect("a result")).collect()
}

#[test]
fn the_page_asks_nobody_for_anything_and_fits_a_phone() {
    if chromium().is_none() {
        eprintln!("SKIPPED: no Chromium here, so the page was not looked at in a browser");
        return;
    }
    for run in [synthetic::two_decoders(), synthetic::chat_beside_products()] {
        let summary = Summary::of(&run);
        let seen = results(&Report::new(&run, &summary).recorded().html("run.json"));
        assert_eq!(seen.len(), 2, "both frames answered: {seen:?}");
        for result in seen {
            assert_eq!(result["errors"], 0, "{result}");
            assert_eq!(result["requests"], 0, "{result}");
            assert_eq!(result["empty"], 0, "{result}");
            assert_eq!(result["overflow"].as_i64().map(|by| by <= 0), Some(true), "{result}");
            assert!(result["svgs"].as_u64().is_some_and(|count| count >= 12), "{result}");
            assert!(result["buttons"].as_u64().is_some_and(|count| count >= 4), "{result}");
            assert_eq!(result["hidden"], "hide0", "{result}");
        }
    }
}
