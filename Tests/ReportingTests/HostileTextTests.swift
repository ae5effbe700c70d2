import ABIChecker
import Foundation
import Testing

@testable import Reporting

/// A text that would be a script, a mention, a table's cell, a test result, a colour or a line of its own.
enum Hostile {
  static let text =
    "x\"><script>alert(1)</script><i onclick='x' & `|` | a |\n\r\n# ok 1 @all [x](javascript:1)"
    + " **b** ~~s~~ $x$ \u{1b}[31mRED\u{1b}]0;title\u{7}\u{0}\u{9b}31m\u{202e}\u{2028}\u{feff}"

  /// The value with this text in the place of each of its texts, but for those that its type restricts.
  static func fill<Value: Codable>(_ value: Value) throws -> Value {
    let decoder = JSONDecoder()
    func json(_ data: Data) throws -> Any {
      try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)
    }
    func decode(_ object: Any) throws -> Value {
      try decoder.decode(Value.self, from: JSONSerialization.data(withJSONObject: object))
    }
    /// Each version of `part` with one more text replaced, kept where the whole can still be read.
    func fill(_ part: Any, _ whole: (Any) -> Any) -> Any {
      switch part {
      case is String:
        return (try? decode(whole(text))) == nil ? part : text
      case let list as [Any]:
        var list = list
        for index in list.indices {
          list[index] = fill(list[index]) { one in
            var copy = list
            copy[index] = one
            return whole(copy)
          }
        }
        return list
      case let pairs as [String: Any]:
        var pairs = pairs
        for (key, one) in pairs {
          pairs[key] = fill(one) { one in
            var copy = pairs
            copy[key] = one
            return whole(copy)
          }
        }
        return pairs
      default: return part
      }
    }
    return try decode(fill(json(JSONEncoder().encode(value))) { $0 })
  }

  /// A report with this text in all places, on rules of the catalogue and on others.
  static func report() throws -> Report {
    var report = Samples.report
    report.version = text
    report.host.clock = text
    report.host.vmm = text
    report.host = try fill(report.host)
    report.hostname = text
    report.date = text
    report.notes = [text]
    report.command = text
    report.repeatOptions = text
    report.interruption = text
    report.noGuestRuns = text
    report.files = [text: [text]]
    report.timings = [ScenarioTiming(scenario: text, attempt: 2, nanoseconds: 5)]
    var violation = Samples.violation
    violation.measure = Measure(what: "the clock", lower: 100, upper: 1100, value: -5000)
    violation.history = "rewrite.1"
    report.verdicts[1].outcome = .broken(violations: [violation, violation, violation, violation])
    report.verdicts[0].outcome = .holds(
      evidence: "4 things", closest: Measure(what: "it", lower: 0, upper: 1000, value: 30))
    violation = Violation(expected: "e", seen: "s", events: [2], history: "rewrite.1")
    report.verdicts[2].outcome = .broken(violations: [violation])
    report.verdicts.append(
      Verdict(rule: "MONO-VCPU", outcome: .observed(value: "v"), scenario: "rate"))
    report.verdicts.append(
      Verdict(
        rule: "HOTPLUG-NO-RESNAP", outcome: .broken(violations: [violation]),
        notOwed: Owed.table.first, scenario: "hotplug"))
    report.verdicts = try report.verdicts.flatMap { verdict -> [Verdict] in
      var named = try fill(verdict)
      named.rule = verdict.rule
      if case .broken(var violations) = named.outcome {
        // The history below that a violation is in.
        violations[0].history = text + ".1"
        named.outcome = .broken(violations: violations)
      }
      return [named, try fill(verdict)]
    }
    report.planned = report.verdicts.count + 3
    report.histories = try histories()
    report.policies = try fill(
      PolicyMatrix(rows: [
        .init(
          host: "h", summary: "s",
          outcomes: [PolicyOutcome](repeating: .works, count: DiscussionGuest.all.count))
      ]))
    report.faults = try fill(
      FaultTable(
        faults: [
          FaultResult(
            id: "i", meaning: "m", expected: ["R"], also: ["A"], reason: "r", broke: ["B", "A"])
        ],
        graded: [
          GradedResult(
            id: "i", meaning: "m", unit: "u", rules: ["R"], sizes: [2, 1], caught: [true, false],
            mustCatch: 1)
        ],
        harness: [
          HarnessResult(
            id: "i", meaning: "m", says: "s", outcome: .inconclusive(reason: "r"),
            holdsAfterwards: true)
        ]))
    return report
  }

  /// One with pictures, and one with each action that holds a text.
  private static func histories() throws -> [History] {
    var pictures = RunningClock().history
    pictures.header.scenario = text
    pictures.header.host.clock = "c"
    pictures.header.host.vmm = "v"
    pictures.header = try fill(pictures.header)
    var actions = Samples.history
    actions.header = pictures.header
    let clock = ClockRecord(clock: 1)
    let more: [Action] = [
      .setClockRefused(clock, error: "e"), .hostClock(name: "n", nanoseconds: 1),
      .setTSCKHz(vcpu: 0, kHz: 1, error: "e"), .stopped(exit: "e"),
      .hostChanged(what: "w", value: "v", error: "e"), .disturbed(how: "h"),
      .vmm(verb: .plug, other: nil, failure: .refused(reason: "r")),
    ]
    let all = try (actions.events.map(\.action) + more).map(fill)
    actions.events = all.enumerated().map { Samples.event($0.offset + 1, $0.element) }
    return [actions, pictures]
  }
}

@Suite struct HostileTextTests {
  /// The texts in a value, nil for one that is absent.
  private func texts(in value: Any) -> [String?] {
    if let text = value as? String { return [text] }
    if type(of: value) == String?.self { return [nil] }
    return Mirror(reflecting: value).children.flatMap { texts(in: $0.value) }
  }

  /// A field that is added later must be filled in above too.
  @Test func theReportOfTheseTestsIsHostileInEachField() throws {
    let rules = Set(Samples.verdicts.map(\.rule) + ["MONO-VCPU", "HOTPLUG-NO-RESNAP"])
    var all = try Hostile.report()
    all.verdicts = all.verdicts.filter { !rules.contains($0.rule) }
    let texts = texts(in: all)
    #expect(texts.count > 100)
    for text in texts where text != Header.formatName {
      #expect(text?.contains(Hostile.text) ?? false, "\(text ?? "nil")")
    }
  }

  @Test func noTextIsMarkupInHTML() throws {
    let text = HTMLReport(try Hostile.report()).text
    #expect(text.contains("<figure") && text.contains("alert(1)"))
    try expectOwnMarkup(text)
  }

  @Test func noTextIsMarkupInJUnitsXML() throws {
    let text = JUnitReport(try Hostile.report()).text
    #expect(text.contains("alert(1)"))
    let body = text.replacing(#"<?xml version="1.0" encoding="UTF-8"?>"#, with: "")
    try expectOwnTags(body)
  }

  @Test func noTextIsMarkupInMarkdown() throws {
    let text = MarkdownReport(try Hostile.report()).text
    #expect(text.contains("alert(1)"))
    try expectOwnMarkdown(text)
  }

  @Test(arguments: [false, true], [nil, 80])
  func noTextMovesTheCursorOfATerminal(isVerbose: Bool, width: Int?) throws {
    let report = try Hostile.report()
    let style = ReportStyle(showsTimings: true, isVerbose: isVerbose)
    let text = TextReport(report, width: width, style: style).text
    #expect(text.contains("RED"))
    expectNoControl(text)
    let coloured = TextReport(report, coloured: true, width: width, style: style).text
    #expect(coloured.replacing(try Regex("\u{1b}\\[[0-9;]+m"), with: "") == text)
  }

  @Test func noTextIsAResultInKTAP() throws {
    let report = try Hostile.report()
    let text = KTAPReport(report, style: ReportStyle(showsTimings: true)).text
    expectNoControl(text)
    let results = text.split(separator: "\n").count {
      $0.hasPrefix("ok ") || $0.hasPrefix("not ok ")
    }
    #expect(results == report.verdicts.count)
  }

  @Test func noTextIsMarkupInAComparison() throws {
    let folder = try Folder()
    let name = Hostile.text.replacing("/", with: "").replacing("\u{0}", with: "")
    var second = try Hostile.report()
    second.verdicts.swapAt(0, 3)
    second.verdicts[0].outcome = .broken(violations: [Samples.violation])
    let reports = try [Hostile.report(), second, Samples.report].enumerated().map { index, report in
      var document = try Hostile.fill(ReportDocument(report))
      document.format = ReportDocument.formatName
      let data = try JSONEncoder().encode(document)
      return try SavedReport.read(folder.file("\(index)\(name.prefix(80)).json", [UInt8](data)))
    }
    for some in [reports, [reports[2], reports[0]]] {
      let comparison = Comparison(some)
      let page = comparison.render(.html)
      #expect(page.contains("RED"))
      try expectOwnMarkup(page)
      try expectOwnMarkdown(comparison.render(.markdown))
      expectNoControl(comparison.render(.text, width: 80))
      expectNoControl(comparison.render(.text))
    }
  }
}

extension HostileTextTests {
  /// Neither control characters nor such that turn or join the text around them.
  private func expectNoControl(_ text: String, at location: SourceLocation = #_sourceLocation) {
    let bad = text.unicodeScalars.filter { scalar in
      switch scalar.properties.generalCategory {
      case .control: scalar != "\n"
      case .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse: true
      default: false
      }
    }
    #expect(bad.isEmpty, "\(bad.map { String($0.value, radix: 16) })", sourceLocation: location)
  }

  /// Every `<`, `>` and `&` belongs to a whole tag with quoted attributes or to an entity.
  private func expectOwnTags(
    _ text: String, at location: SourceLocation = #_sourceLocation
  ) throws {
    expectNoControl(text, at: location)
    let tag = try Regex(#"</?[a-z][a-z0-9-]*(?: [a-zA-Z0-9-]+(?:="[^"<>]*")?)*/?>"#)
    let rest = text.replacing(tag, with: "")
    for sign in ["<", ">"] {
      let at = rest.range(of: sign)?.lowerBound ?? rest.endIndex
      #expect(at == rest.endIndex, "\(rest[at...].prefix(200))", sourceLocation: location)
    }
    let entity = try Regex("&(?:amp|lt|gt|quot|#39);")
    #expect(!text.replacing(entity, with: "").contains("&"), sourceLocation: location)
    for match in text.matches(of: try Regex(#" ([a-zA-Z-]+)=""#)) {
      let name = match.output[1].substring ?? ""
      #expect(!name.hasPrefix("on"), "\(name)", sourceLocation: location)
    }
  }

  /// A page in which nothing is markup but its own: its one script, its one style sheet, links into itself
  /// and to what the kernel's own hosts have.
  private func expectOwnMarkup(
    _ page: String, at location: SourceLocation = #_sourceLocation
  ) throws {
    var text = page.replacing("<!DOCTYPE html>", with: "")
    for name in ["script", "style"] {
      #expect(text.components(separatedBy: "<\(name)").count == 2, sourceLocation: location)
      let begin = try #require(text.range(of: "<\(name)>"))
      let end = try #require(text.range(of: "</\(name)>"))
      text.removeSubrange(begin.lowerBound..<end.upperBound)
    }
    try expectOwnTags(text, at: location)
    let names = try text.matches(of: Regex(##" (?:id="|href="#)([^"]*)""##)).map {
      String($0.output[1].substring ?? "")
    }
    #expect(!names.isEmpty, sourceLocation: location)
    for name in names {
      #expect(
        try Regex("[A-Za-z0-9._-]+").wholeMatch(in: name) != nil, "\(name)",
        sourceLocation: location)
    }
    let links = text.components(separatedBy: " href=\"").dropFirst()
    let own = ["#", "data:,\"", "https://docs.kernel.org/", "https://git.kernel.org/"]
    #expect(
      links.allSatisfy { link in own.contains { link.hasPrefix($0) } }, sourceLocation: location)
    for match in text.matches(of: try Regex(#" style="([^"]*)""#)) {
      let style = String(match.output[1].substring ?? "")
      #expect(
        try Regex("(?:flex-grow|left|width):[0-9.]+%?").wholeMatch(in: style) != nil, "\(style)",
        sourceLocation: location)
    }
  }

  /// What is left without escapes and names in backticks is the report's own markup.
  private func expectOwnMarkdown(
    _ text: String, at location: SourceLocation = #_sourceLocation
  ) throws {
    expectNoControl(text, at: location)
    let link = #"\]\(https://(?:docs|git)\.kernel\.org/[A-Za-z0-9./_#-]*\)"#
    let text = text.replacing(try Regex(#"\[([^\[\]]*)"# + link)) {
      "\($0.output[1].substring ?? "")"
    }
    let escapes = try Regex(#"\\.|&#64;|`[A-Za-z0-9.-]+`|\*\*|\*[A-Z][a-z]+\*:"#)
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let rest = line.replacing(escapes, with: "")
      let heading = try Regex("^#{1,3} ")
      let said = rest.replacing(heading, with: "")
      for sign in ["<", "@", "[", "]", "`", "~", "$", "*", "#"] {
        #expect(!said.contains(sign), "\(line)", sourceLocation: location)
      }
      if !rest.hasPrefix("|") { #expect(!rest.contains("|"), "\(line)", sourceLocation: location) }
    }
    // Each table has as many cells in all its rows.
    for table in text.components(separatedBy: "\n\n") where table.hasPrefix("| ") {
      let cells = table.split(separator: "\n").map { line in
        line.replacing(escapes, with: "").count { $0 == "|" }
      }
      #expect(Set(cells).count == 1, "\(table)", sourceLocation: location)
    }
  }
}
