import Foundation
import Testing

/// The page in a browser: Chromium, where it is installed.
@Suite(.enabled(if: Browser.chromium.isThere, Browser.chromium.reason), .serialized)
struct BrowserTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// Opens a page behind a script that notes errors and, at the end, what there is to see. The page's own policy would
  /// not let it run further down.
  private func open(_ page: String, at place: String = "") throws -> Child {
    try folder.write(Browser.script + (try folder.read(page)), to: "seen.html")
    return try Child(
      """
      mkdir -p profile; export HOME="$D"
      chromium --headless --no-sandbox --disable-gpu --user-data-dir="$D/profile" --no-first-run \
        --host-resolver-rules='MAP * ~NOTFOUND' --virtual-time-budget=3000 --window-size=1200,800 \
        --dump-dom "file://$D/seen.html\(place)" 2>/dev/null
      """, in: folder)
  }

  /// What the script found, by name.
  private func found(_ child: Child) -> [String: String] {
    var found: [String: String] = [:]
    for match in child.output.matches(of: #/data-seen-([a-z]+)="([^"]*)"/#) {
      found[String(match.output.1)] = String(match.output.2)
    }
    return found
  }

  @Test func aReportOfSomethingBrokenLoadsWithItsProofs() throws {
    try folder.writeHistory("h", versions: [2, 3, 4])
    try Child("\"$K\" check h --html a.html", in: folder).expect(1)
    let seen = found(try open("a.html"))
    #expect(seen["errors"] == "none")
    #expect(seen["dead"] == "none", "links that lead nowhere")
    #expect(seen["open"] == "rule-VERSION-EVEN")
    #expect(seen["evidence"] == "e-version.1-4", "the first link to the evidence was followed")
    #expect(seen["answer"].flatMap(Double.init) ?? 800 < 300, "it is on the first screen")
  }

  private static let injection = "<script>document.title='PWNED'</script>"

  /// It ran.
  @Test func aScriptInAHistoryDoesNotRun() throws {
    try folder.writeHistory("h", versions: [2, 4, 6, 8], scenario: "x\">\(Self.injection)")
    #expect(try Child("\"$K\" check h --html a.html", in: folder).code != 65)
    let seen = found(try open("a.html"))
    #expect(seen["title"]?.hasPrefix("kvmclock: ") ?? false, "\(seen)")
    #expect(seen["pictures"] == "1" && seen["dead"] == "none" && seen["errors"] == "none")
  }

  /// Should markup ever get in, the page's policy stops what it would do.
  @Test func thePolicyStopsAScriptThatIsNotThePagesOwn() throws {
    try folder.writeHistory("h", versions: [2, 3, 4])
    try Child("\"$K\" check h --html a.html", in: folder).expect(1)
    let page = try folder.read("a.html")
    #expect(page.contains("<main"))
    let more = Self.injection + "<style>h1 { display: none }</style><main onclick='x'"
    try folder.write(page.replacing("<main", with: more), to: "b.html")
    let seen = found(try open("b.html"))
    #expect(seen["title"]?.hasPrefix("kvmclock: ") ?? false, "\(seen)")
    let errors = seen["errors"] ?? ""
    for directive in ["script-src-elem", "script-src-attr", "style-src-elem"] {
      #expect(errors.contains("stopped by \(directive)"), "\(errors)")
    }
    #expect(seen["open"] == "rule-VERSION-EVEN", "the page's own script has run")
  }

  @Test func aLinkOpensARuleThatIsClosed() throws {
    try folder.writeHistory("h", versions: [2, 2, 2, 2, 2, 4])
    try Child("\"$K\" check h --html a.html", in: folder).expect(0)
    #expect(found(try open("a.html"))["open"] == "")
    #expect(found(try open("a.html", at: "#rule-VERSION-EVEN"))["open"] == "rule-VERSION-EVEN")
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aRunsPicturesAreDrawn() throws {
    let run = try Child(
      "\"$K\" run 'SYSTIME-REW*' STABLE-OLDMSR-VCPU0-CLEARS 'MANY*' MONO-VCPU --html a.html",
      in: folder)
    #expect(run.code == 0 || run.code == 2, "\(run.complaint)")
    let seen = found(try open("a.html"))
    #expect(seen["errors"] == "none" && seen["dead"] == "none")
    #expect((seen["pictures"].flatMap(Int.init) ?? 0) >= 5, "with a height and a width")
    #expect((seen["dots"].flatMap(Int.init) ?? 0) >= 100, "within their pictures")
    #expect(seen["strays"] == "0", "dots outside of their pictures")
    #expect(seen["overflow"] == "0", "nothing is wider than the page")
  }

  /// It printed on 61 pages, and later without the proofs.
  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aBrokenHostsPagePrintsOnTenPages() throws {
    try Child("exec \"$K\" run --host interference -q --html a.html", in: folder).expect(1)
    let page = try folder.read("a.html")
    #expect(page.contains("<tr class=\"cited printed\""), "printed proofs")
    try Child(
      """
      mkdir -p profile; export HOME="$D"
      chromium --headless --no-sandbox --disable-gpu --user-data-dir="$D/profile" --no-first-run \
        --print-to-pdf="$D/a.pdf" "file://$D/a.html" 2>/dev/null
      """, in: folder
    ).expect(0)
    let pages = try Child("grep -a -c '/Type /Page$' a.pdf", in: folder).output
    let count = try #require(Int(pages.trimmingCharacters(in: .whitespacesAndNewlines)))
    #expect((4...10).contains(count))
  }

  @Test func aComparisonLoads() throws {
    try folder.writeHistory("odd", versions: [2, 3, 4])
    try folder.writeHistory("even", versions: [2, 2, 2, 2, 2, 4])
    _ = try Child(
      """
      "$K" check odd --output odd.json; "$K" check even --output even.json
      "$K" compare even.json odd.json --html a.html
      """, in: folder)
    let seen = found(try open("a.html"))
    #expect(seen["errors"] == "none" && seen["dead"] == "none")
    #expect(seen["open"] == "rule-VERSION-EVEN")
  }
}

enum Browser {
  static let chromium = Tool(path: "/usr/bin/chromium", remedy: "apt-get install chromium")

  static let script = """
    <!DOCTYPE html><script>
    window.problems = [];
    addEventListener("error", event => problems.push(event.message || "resource"), true);
    addEventListener("securitypolicyviolation",
      event => problems.push("stopped by " + event.effectiveDirective));
    addEventListener("load", () => {
      const note = (name, value) => document.body.setAttribute("data-seen-" + name, value);
      const all = what => [...document.querySelectorAll(what)];
      note("title", document.title);
      note("answer", document.querySelector("h1").getBoundingClientRect().bottom);
      note("open", all("details.rule[open]").map(rule => rule.id).join(" "));
      note("dead", all("a[href^='#']").filter(link =>
        !document.getElementById(decodeURIComponent(link.hash.slice(1)))).map(link => link.hash)
        .join(" ") || "none");
      const pictures = all("figure svg");
      note("pictures", pictures.filter(picture => {
        const box = picture.getBoundingClientRect();
        return box.width > 100 && box.height > 50;
      }).length);
      note("dots", all("figure circle").length);
      note("strays", all("figure circle").filter(dot => {
        const inner = dot.getBoundingClientRect();
        const outer = dot.closest("svg").getBoundingClientRect();
        return inner.left < outer.left || inner.right > outer.right || inner.top < outer.top
          || inner.bottom > outer.bottom;
      }).length);
      note("overflow", Math.max(0, document.documentElement.scrollWidth - innerWidth));
      note("evidence", "none");
      const proof = document.querySelector(".where a");
      if (proof) {
        proof.click();
        setTimeout(() => note("evidence", document.querySelector(":target")?.id ?? "none"), 500);
      }
      note("errors", problems.join(" ") || "none");
    });
    </script>
    """
}
