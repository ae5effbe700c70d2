import Foundation
import Testing

@Suite struct CompareTests {
  let folder: Folder

  init() throws {
    folder = try Folder()
    try folder.writeHistory("odd", versions: [2, 3, 4])
    try folder.writeHistory("even", versions: [2, 2, 2, 2, 2, 4], kernel: "6.13.0")
    for name in ["odd", "even"] {
      _ = try Child("\"$K\" check \(name) --output \(name).json", in: folder)
    }
  }

  private func compare(_ arguments: String) throws -> Child {
    try Child("exec \"$K\" compare \(arguments)", in: folder)
  }

  @Test func aReportThatBreaksARuleAnewGivesOne() throws {
    let child = try compare("even.json odd.json")
    child.expect(1)
    #expect(
      child.output.hasPrefix(
        """
        BROKEN on 1 of 2 reports: 1 rule.
        odd breaks 1 rule that even does not.
        BROKEN   VERSION-EVEN: holds on even; BROKEN on odd; seen: 
        """))
  }

  /// It said "Nothing is newly broken" with a tick, and gave 0.
  @Test func aFleetThatIsBrokenEverywhereGivesOneAndSaysSoFirst() throws {
    let child = try compare(
      "odd.json odd.json odd.json --output a.json --output a.md --html a.html")
    child.expect(1)
    #expect(
      child.output.hasPrefix(
        "BROKEN on 3 of 3 reports: 1 rule.\nBROKEN   VERSION-EVEN: BROKEN on odd.json, "))
    #expect(
      try folder.read("a.md").hasPrefix("# BROKEN on 3 of 3 reports: 1 rule\n"))
    #expect(try folder.read("a.md").contains("## Broken\n\n- `VERSION-EVEN`: BROKEN on "))
    let json = try folder.read("a.json")
    #expect(json.contains("\"exitStatus\" : 1"))
    let page = try folder.read("a.html")
    #expect(page.contains("<header class=\"hero broken\">"))
    #expect(page.contains("<h1>BROKEN on 3 of 3 reports: 1 rule</h1>"))
    #expect(page.contains("<details class=\"rule broken\" id=\"rule-VERSION-EVEN\" open>"))
    #expect(!page.contains(">✓</span>"))
  }

  @Test func aRuleThatMostReportsBreakIsBroken() throws {
    try Child("cp odd.json odd2.json", in: folder).expect(0)
    let child = try compare("odd.json odd2.json even.json --html a.html")
    child.expect(1)
    #expect(
      child.output.hasPrefix(
        "BROKEN on 2 of 3 reports: 1 rule.\nBROKEN   VERSION-EVEN: BROKEN on odd, odd2; holds on "))
    #expect(try !folder.read("a.html").contains(">✓</span>"))
  }

  @Test func reportsWithoutABrokenRuleGiveZero() throws {
    let child = try compare("even.json even.json even.json --html a.html")
    child.expect(0)
    #expect(child.output.hasPrefix("No rule is broken, and no verdict differs.\n"))
    #expect(try folder.read("a.html").contains("<header class=\"hero holds\">"))
  }

  @Test func whereOnlyDifferencesCountAMendedRuleGivesZero() throws {
    let mended = try compare("--only-differences odd.json even.json --html a.html")
    mended.expect(0)
    #expect(
      mended.output.hasPrefix(
        "Nothing is newly broken.\nBROKEN   VERSION-EVEN: BROKEN on odd; holds on even; seen: "))
    #expect(try folder.read("a.html").contains("<header class=\"hero known\">"))
    #expect(try !folder.read("a.html").contains(">✓</span>"))
    let worse = try compare("--only-differences even.json odd.json")
    worse.expect(1)
    #expect(worse.output.hasPrefix("odd breaks 1 rule that even does not.\nBROKEN   VERSION-EVEN"))
    let alike = try compare("--only-differences odd.json odd.json odd.json")
    alike.expect(0)
    #expect(alike.output.hasPrefix("No verdict differs.\nA  "))
  }

  @Test func aFileThatIsNoReportIsToldAndTheOthersAreCompared() throws {
    try folder.write("{\"format\":\"kvmclock-report\",\"version\":9}", to: "new.json")
    try folder.write("what", to: "bad.json")
    let child = try compare("even.json bad.json even.json")
    child.expect(65, "kvmclock: bad.json: not a report of kvmclock: not valid JSON")
    #expect(child.output.hasPrefix("No rule is broken, and no verdict differs.\n"))
    try compare("even.json none.json").expect(66, "none.json: cannot open it: No such file")
    try compare("even.json new.json").expect(65, "of format version 9, and this kvmclock reads up")
    try compare("even.json .").expect(66, ".: cannot read it: Is a directory")
    try Child("head -n 1 odd >h; exec \"$K\" compare even.json h", in: folder)
      .expect(
        65, "h: the format is \"kvmclock-history\", not \"kvmclock-report\": make one of it with")
    try compare("even.json even.json bad.json odd.json odd.json even.json").expect(1, "bad.json")
  }

  @Test(arguments: [
    ("even.json", "Name two reports or more."), ("", "Missing expected argument"),
    ("even.json odd.json --output a.xml", "'a.xml' has an ending that names no format of a"),
    ("even.json odd.json --format ktap", "A comparison has no format ktap."),
  ])
  func aWrongCommandLineIsExplained(arguments: String, complaint: String) throws {
    try compare(arguments).expect(64, complaint)
  }

  @Test func itIsWrittenInSeveralFormats() throws {
    let child = try compare(
      "even.json odd.json --output a.json --output a.md --output a.txt --html a.html")
    child.expect(1)
    #expect(try folder.read("a.txt") == child.output)
    #expect(try folder.read("a.md").hasPrefix("# BROKEN on 1 of 2 reports: 1 rule\n"))
    #expect(try folder.read("a.html").contains("<h1>BROKEN on 1 of 2 reports: 1 rule</h1>"))
    try compare("even.json even.json --output none/a.md --output b.md")
      .expect(74, "none/a.md: cannot write a file there")
    #expect(folder.names.contains("b.md"))
  }

  @Test(.enabled(if: Schema.obstacle == nil, Schema.reason))
  func itsJSONIsWhatTheSchemaDescribes() throws {
    let schema = Schema.validate("comparison.schema.json")
    for options in ["", "--only-differences"] {
      try Child("\"$K\" compare odd.json even.json \(options) --format json \(schema)", in: folder)
        .expect(0)
    }
    try Child(
      "\"$K\" compare odd.json even.json --format json | sed 's/\"mended\"/\"nicer\"/' \(schema)",
      in: folder
    ).expect(1)
  }

  @Test func aThousandReportsAreCompared() throws {
    let child = try Child(
      """
      for i in $(seq 999); do ln even.json $i.json; done
      exec "$K" compare [1-9]*.json odd.json --html all.html
      """, in: folder)
    child.expect(1)
    #expect(child.output.hasPrefix("BROKEN on 1 of 1000 reports: 1 rule.\n"))
    #expect(child.output.contains("\nBROKEN   VERSION-EVEN: holds on 999: 1, "))
    #expect(child.output.contains("\nA  999 reports: 1, 10, 100 and 996 more (Linux 6.13.0"))
  }
}
