import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct HTMLReportTests {
  /// A report with pictures, and a violation whose events are in its history.
  static var report: Report {
    var report = Samples.report
    var violation = Samples.violation
    violation.history = "rewrite.1"
    violation.measure = Measure(what: "the clock", lower: 100, upper: 1100, value: -5000)
    report.verdicts[1].outcome = .broken(violations: [violation])
    report.verdicts[0].outcome = .holds(
      evidence: "4 things", closest: Measure(what: "it", lower: 0, upper: 1000, value: 30))
    report.histories = ["rewrite", "many", "old-msr"].map { RunningClock(scenario: $0).history }
    report.timings = [ScenarioTiming(scenario: "rewrite", attempt: 1, nanoseconds: 4_999_999)]
    return report
  }

  private func matches(_ pattern: String, in text: String) throws -> [String] {
    try text.matches(of: Regex(pattern)).compactMap { $0.output[1].substring.map(String.init) }
  }

  @Test func everyLinkLeadsToAPlaceOnThePage() throws {
    let text = HTMLReport(Self.report).text
    let ids = try matches(#"id="([^"]*)""#, in: text)
    let links = try matches(#"href="([^"]*)""#, in: text)
    #expect(Set(ids).count == ids.count)
    #expect(links.count > 10)
    for link in links where link != "data:," && !link.hasPrefix("https://") {
      #expect(link.hasPrefix("#") && ids.contains(String(link.dropFirst())), "\(link)")
    }
    #expect(links.contains("#e-rewrite.1-4") && links.contains("#rule-VERSION-EVEN"))
  }

  @Test func nothingIsFetched() {
    // A link to a source fetches nothing until it is followed.
    let text = HTMLReport(Self.report).text
      .replacing(/<a href="https:\/\/(?:docs|git)\.kernel\.org\/[^"]*">/, with: "")
    for word in ["http:", "https:", "//cdn", " src=", "@import", "url("] {
      #expect(!text.contains(word))
    }
  }

  @Test func picturesOfWhatBrokeComeFirst() throws {
    let text = HTMLReport(Self.report).text
    let figures = try matches(#"<figure id="([^"]*)""#, in: text)
    #expect(
      figures == [
        "time-rewrite.1", "time-many.1", "spread-rewrite.1", "spread-many.1", "updates-rewrite.1",
        "updates-old-msr.1",
      ])
    #expect(text.contains("<circle class=\"s0\""))
    #expect(text.contains("<rect class=\"stable\""))
    #expect(!text.contains("NaN") && !text.contains("inf\""))
  }

  @Test func theAnswerComesFirst() throws {
    let broken = HTMLReport(Self.report).text
    #expect(broken.contains("<h1>This host’s clock is not sound</h1>"))
    let answer = try #require(broken.range(of: "<h1>"))
    let why = try #require(broken.range(of: ##"<li class="broken"><a href="#rule-VERSION-EVEN">"##))
    let pictures = try #require(broken.range(of: "<figure"))
    #expect(answer.lowerBound < why.lowerBound && why.lowerBound < pictures.lowerBound)
    let sound = HTMLReport(TextSummaryTests.usual).text
    #expect(sound.contains("<h1>This host’s clock is sound</h1>"))
    #expect(
      sound.contains(
        "Known bugs of this kernel, which do not count as broken: <a href=\"#rule-SYSTIME-CROSSPAGE"
      ))
  }

  /// A fault in a model, a VMM's clock and a guest's say nothing of this host's own.
  @Test func itSaysWhoseClockItIs() {
    var report = Self.report
    report.host.clock = "user-space model with the fault X"
    #expect(HTMLReport(report).text.contains("<h1>The clock under test is not sound</h1>"))
    #expect(
      report.answer.hasSuffix(
        "(of 202 in all). The clock under test is not this host's own: user-space model with the fault X."
      ))
    #expect(TextReport(report).text.contains("The clock under test is not this host's own"))
    report.host.clock = nil
    report.host.vmm = "QEMU 10.0"
    #expect(
      HTMLReport(report).text.contains("<h1>The clock of guests under QEMU 10.0 is not sound</h1>"))
    report.host.vmm = nil
    report.command = "inside"
    #expect(HTMLReport(report).text.contains("<h1>This guest’s clock is not sound</h1>"))
  }

  /// What is no step of the clock is told by what the rule says, not by a record's fields alone.
  @Test func aFindingWithoutAStepSaysWhatDoesNotHold() throws {
    let text = HTMLReport(Self.report).text
    let rule = try #require(Rule.named("VERSION-EVEN"))
    #expect(text.contains("<code>VERSION-EVEN</code></a> broken: <b>\(rule.statement)</b> Seen: "))
    #expect(text.contains("<kbd>kvmclock explain "))
    #expect(Plain.sentence("abc def", limit: 5) == "abc d…")
    #expect(Plain.sentence("abc.", limit: 5) == "abc." && Plain.sentence("abc", limit: 5) == "abc.")
  }

  @Test func anObservationIsDrawnBesideItsInterval() {
    let text = HTMLReport(Self.report).text
    #expect(text.contains("<span class=\"at\">−5 µs: 5.1 µs too low</span>"))
    #expect(text.contains("<span class=\"at\">30 ns: margin 30 ns</span>"))
    #expect(
      HTMLReport.gauge(Measure(what: "", lower: 0, upper: 10, value: 5)).text.contains("left:50%"))
    #expect(
      HTMLReport.gauge(
        Measure(what: "", lower: 1_000_000_000, upper: 1_000_000_010, value: 1_000_000_004)
      )
      .text.contains("<span class=\"to\">+10 ns</span>"))
  }

  /// Rows of raw JSON could not be read.
  @Test func anEventIsSaidInWords() {
    let said: [(Action, String)] = [
      (.compared(changes: []), "compared the memories: nothing changed"),
      (
        .compared(changes: [MemoryChange(memory: 0, offset: 0x23d00, bytes: [1, 2, 3])]),
        "compared the memories: changed 3 bytes at 0x23d00 of memory 0"
      ),
      (.hostClock(name: "CLOCK_REALTIME", nanoseconds: 5), "CLOCK_REALTIME was 5 ns"),
      (.toldStopped(vcpu: 1, errno: .none), "KVM_KVMCLOCK_CTRL of vcpu1"),
      (
        .toldStopped(vcpu: 1, errno: .invalidArgument), "KVM_KVMCLOCK_CTRL of vcpu1: EINVAL"
      ),
      (.setTSCOffset(vcpu: 0, cycles: 7), "set vcpu0's TSC offset to 7"),
    ]
    for (action, text) in said { #expect(action.plain == text) }
  }

  @Test func theEvidenceShowsTheEventsAndThoseBeside() {
    let text = HTMLReport(Self.report).text
    #expect(
      text.contains("<tr class=\"cited printed\" id=\"e-rewrite.1-4\"><td>4</td><td>vcpu1</td>"))
    #expect(text.contains("<td class=\"what\"><details><summary>wrote MSR 0x4b564d01"))
    #expect(text.contains("of rewrite.1"))
  }

  @Test func noTextFromAHistoryIsMarkup() {
    var report = Self.report
    let evil = "\"><script>alert(1)</script><a href='x"
    report.host.kernel = evil
    report.notes = [evil]
    report.verdicts[1].scenario = evil
    report.histories[0].header.scenario = evil
    for index in report.histories[0].events.indices {
      report.histories[0].events[index].action = .failed(reason: evil)
    }
    if case .broken(var violations) = report.verdicts[1].outcome {
      violations[0].seen = evil
      violations[0].history = evil + ".1"
      report.verdicts[1].outcome = .broken(violations: violations)
    }
    let text = HTMLReport(report).text
    #expect(!text.contains("<script>alert"))
    #expect(!text.contains("href='x"))
  }

  @Test func withoutHistoriesThereAreVerdictsAllTheSame() {
    var report = Self.report
    report.histories = []
    let text = HTMLReport(report).text
    #expect(!text.contains("<figure") && text.contains("id=\"rule-VERSION-EVEN\""))
    #expect(!text.contains("href=\"#evidence\"") && !text.contains("href=\"#e-"))
  }

  @Test func policiesAndFaultsAreShownWhereTheyRan() throws {
    var report = Self.report
    #expect(!HTMLReport(report).text.contains("id=\"policies\""))
    let count = DiscussionGuest.all.count
    let outcomes = [PolicyOutcome](repeating: .works, count: count - 1) + [.wentBack(by: 7)]
    report.include(
      .policies(PolicyMatrix(rows: [.init(host: "opt<in>", summary: "s", outcomes: outcomes)])))
    report.include(
      .faults(
        FaultTable(faults: [
          FaultResult(id: "lost", meaning: "m", expected: ["RATE-RAW", "HOP"], broke: ["HOP"])
        ])))
    let text = HTMLReport(report).text
    #expect(text.contains("<th title=\"s\">opt&lt;in&gt;</th>"))
    #expect(text.contains("<td class=\"broken\">went back 7 ns</td>"))
    #expect(text.contains("<code>HOP</code> <code class=\"missed\">not RATE-RAW</code>"))
    let markdown = MarkdownReport(report).text
    #expect(markdown.contains("## Policies\n\n| guest | opt&lt;in&gt; |"))
    #expect(markdown.contains("| `lost`: m | **MISSED** | `HOP` |"))
  }
}
