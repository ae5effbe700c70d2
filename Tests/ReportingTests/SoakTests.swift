import Foundation
import Testing

@testable import ABIChecker
@testable import Reporting

@Suite struct SoakTests {
  private static let other = Verdict(
    rule: "RATE-RAW", outcome: .notTested(reason: "no clock"), scenario: "rate")

  private static func holds(_ evidence: String, _ rule: String = "VERSION-EVEN") -> Verdict {
    Verdict(rule: rule, outcome: .holds(evidence: evidence), scenario: "version")
  }

  private static func broken(_ seen: String) -> Verdict {
    let violation = Violation(expected: "version 2", seen: seen, events: [4])
    return Verdict(
      rule: "VERSION-EVEN", outcome: .broken(violations: [violation]), scenario: "version")
  }

  private static var state: SoakState {
    var state = SoakState(
      version: "0.1.0", host: Samples.host, device: "/dev/kvm", seed: 40,
      rules: ["VERSION-EVEN", "RATE-RAW"])
    state.add([holds("5 looks")], retries: 0)
    state.add([broken("version 3"), other], retries: 2)
    state.add([broken("version 5"), other], retries: 0)
    state.elapsed = 3_723_400_000_000
    state.written = 1_800_000_000
    return state
  }

  @Test func oneBrokenRoundDecidesAndItsProofIsKept() {
    let report = Self.state.report()
    #expect(report.verdicts == [Self.broken("version 3"), Self.other])
    #expect(report.exitCode == 1)
    #expect(
      report.notes.contains(
        "VERSION-EVEN broken in 2 of 3 verdicts, first in round 2 (seed 42)"))
    #expect(TextReport(report).text.contains("repeat:   kvmclock soak VERSION-EVEN --seed 40\n"))
  }

  @Test func aRoundThatCouldNotTellTakesNothingAway() {
    var tally = RuleTally(Self.holds("5 looks"), round: 1)
    let unknown = Verdict(
      rule: "VERSION-EVEN", outcome: .inconclusive(reason: "busy"), scenario: "version")
    tally.add(unknown, round: 2)
    tally.add(Self.holds("6 looks"), round: 3)
    #expect(tally.verdict.outcome == .holds(evidence: "2 of 3 times; the last: 6 looks"))
    var undecided = RuleTally(unknown, round: 1)
    undecided.add(unknown, round: 2)
    #expect(undecided.verdict.outcome == .inconclusive(reason: "2 times; the last: busy"))
  }

  @Test func aCheckpointIsReadAsItWasWritten() throws {
    let folder = try Folder()
    let path = "\(folder.path)/soak.json"
    try Self.state.write(to: path)
    #expect(try SoakState.read(path) == Self.state)
    #expect(folder.names == ["soak.json"])
  }

  @Test(arguments: [
    ("{}", "not a checkpoint of kvmclock soak"),
    ("[1", "not a checkpoint of kvmclock soak"),
    (#"{"format":"kvmclock-history","formatVersion":1}"#, "not a checkpoint of kvmclock soak"),
    (#"{"format":"kvmclock-soak","formatVersion":9}"#, "written by a newer kvmclock"),
    (#"{"format":"kvmclock-soak","formatVersion":1,"host":3}"#, "a damaged checkpoint"),
  ])
  func whatIsNoCheckpointIsRefused(text: String, cause: String) throws {
    let folder = try Folder()
    let path = try folder.file("soak.json", text)
    let error = #expect(throws: FileError.self) { try SoakState.read(path) }
    #expect(error?.cause.contains(cause) ?? false, "\(error?.cause ?? "")")
  }

  @Test func theLineForWhoWatches() {
    #expect(
      Self.state.progress
        == "1:02:03  1 BROKEN, 0 reads, spread 0 ns, residual -, 0 updates, 2 retries")
    #expect(SoakState.count(1_234_567_890) == "1.2 billion")
    #expect(SoakState.count(999_999) == "999999")
    #expect(SoakState.brief(999) == "999")
    #expect(SoakState.brief(99_950) == "99.9k")
    #expect(SoakState.brief(2_000_000) == "2.0M")
    #expect(SoakState.brief(.max) == "18446744.0T")
  }

  @Test func thePrometheusTextReadsLikeThis() {
    let text = PrometheusText(Self.state).text
    #expect(
      text.hasPrefix(
        """
        # HELP kvmclock_soak_info What is being soaked.
        # TYPE kvmclock_soak_info gauge
        kvmclock_soak_info{version="0.1.0",kernel="6.1.0-test",backend="kvm_intel",clocksource="tsc"} 1
        # HELP kvmclock_soak_running 1 while the soak goes on.
        # TYPE kvmclock_soak_running gauge
        kvmclock_soak_running 1
        # HELP kvmclock_soak_updated_timestamp_seconds When this was written.
        # TYPE kvmclock_soak_updated_timestamp_seconds gauge
        kvmclock_soak_updated_timestamp_seconds 1800000000
        # HELP kvmclock_soak_elapsed_seconds How long the soak has run.
        # TYPE kvmclock_soak_elapsed_seconds gauge
        kvmclock_soak_elapsed_seconds 3723.400000000

        """))
    #expect(
      text.contains(
        "\nkvmclock_soak_verdicts_total{rule=\"VERSION-EVEN\",outcome=\"broken\"} 2\n"))
    #expect(text.hasSuffix("\nkvmclock_soak_broken_rules 1\n"))
  }

  /// Buckets depended on what was seen, so that hosts could not be added up.
  @Test func bucketsAreTheSameWhateverWasSeen() {
    func lines(_ values: [UInt64]) -> [String] {
      var histogram = Histogram()
      for value in values { histogram.add(value) }
      return PrometheusText.histogram("h", histogram, [])
    }
    func bounds(_ lines: [String]) -> [Substring] { lines.map { $0.prefix { $0 != " " } } }
    let some = lines([0, 3, 5_000])
    #expect(bounds(some) == bounds(lines([.max])) && bounds(some) == bounds(lines([])))
    #expect(some[0] == #"h_bucket{le="0.000000000"} 1"# && some[1].hasSuffix(" 2"))
    #expect(some.contains(#"h_bucket{le="0.000001023"} 2"#))
    #expect(some.contains(#"h_bucket{le="+Inf"} 3"#))
  }

  /// A known deviation set off the alert for broken rules.
  @Test func aKnownDeviationIsNoBrokenOutcome() {
    var verdict = Self.broken("version 3")
    verdict.known = Samples.verdicts[2].known
    var state = SoakState(
      version: "0.1.0", host: Samples.host, device: "/dev/kvm", seed: 40, rules: ["VERSION-EVEN"])
    state.add([verdict], retries: 0)
    let text = PrometheusText(state).text
    #expect(text.contains("{rule=\"VERSION-EVEN\",outcome=\"broken\"} 0\n"))
    #expect(text.contains("{rule=\"VERSION-EVEN\",outcome=\"known\"} 1\n"))
    #expect(text.hasSuffix("\nkvmclock_soak_broken_rules 0\n"))
  }

  private static func drift(_ round: Int, residual: Int64) -> SoakStatistics.Drift {
    SoakStatistics.Drift(
      span: Int64(round) * 1_000_000_000, gained: 0, residual: residual, uncertainty: 100)
  }

  @Test func theCourseOfADriftKeepsItsWorstInRoomThatDoesNotGrow() throws {
    var course = SoakCourse()
    for round in 1...1000 {
      let drift = Self.drift(round, residual: round == 500 ? -170 : Int64(round % 90))
      course.add(drift, at: UInt64(round) * 1_000_000_000)
      course.add(drift, at: UInt64(round) * 1_000_000_000)
    }
    #expect((SoakCourse.most / 2...SoakCourse.most).contains(course.points.count))
    #expect(course.points.reduce(0) { $0 + $1.rounds } == 1000, "a round counts once")
    #expect(course.points.filter { $0.excess > 0 }.map(\.residual) == [-170])
    #expect(course.points.last?.elapsed == 1_000_000_000_000)
    #expect(course.isSound)
  }

  /// A soak with these residuals, each allowed ±100 ns, and these sizes of steps back.
  private static func soaked(
    residuals: [Int64], spread: [UInt64], verdict: Verdict
  ) throws -> SoakState {
    var state = SoakState(
      version: "0.1.0", host: Samples.host, device: "/dev/kvm", seed: 40, rules: [verdict.rule])
    var course = SoakCourse()
    for (round, residual) in residuals.enumerated() {
      course.add(drift(round, residual: residual), at: UInt64(round + 1) * 60_000_000_000)
    }
    state.add([verdict], retries: 0)
    var histogram = Histogram()
    for value in spread { histogram.add(value) }
    func object(_ value: some Encodable) throws -> Any {
      try JSONSerialization.jsonObject(with: JSONEncoder().encode(value))
    }
    var whole = try #require(try object(state) as? [String: Any])
    var statistics = try #require(whole["statistics"] as? [String: Any])
    statistics["spread"] = try object(histogram)
    whole["statistics"] = statistics
    whole["course"] = try object(course)
    return try JSONDecoder().decode(
      SoakState.self, from: JSONSerialization.data(withJSONObject: whole))
  }

  @Test func aSoundSoakHasSoundPictures() throws {
    let state = try Self.soaked(
      residuals: [3, -40, 99], spread: [0, 0, 0],
      verdict: Self.holds("no step back", "MONO-CROSS-VCPU"))
    let text = HTMLReport(state.report()).text
    #expect(text.contains(#"<figure id="soak-course">"#) && text.contains("all lie in it."))
    #expect(text.contains("0 is what a sound host shows."))
    #expect(!text.contains(#"class="wrong""#) && !text.contains(#"class="bad""#))
    #expect(!text.contains(#"id="soak-steps-without""#), "nothing was seen of it")
  }

  @Test func aBrokenSoaksPicturesShowIt() throws {
    var verdict = Self.broken("a step back of 900 ns")
    verdict.rule = "MONO-CROSS-VCPU"
    let state = try Self.soaked(residuals: [3, 250, -5], spread: [0, 900], verdict: verdict)
    let text = HTMLReport(state.report()).text
    #expect(text.contains("<b>1 of 3 lie outside</b>."))
    #expect(text.components(separatedBy: #"<circle class="wrong""#).count == 2)
    #expect(text.contains("MONO-CROSS-VCPU is broken.") && text.contains(#"<rect class="bad""#))
  }

  @Test func anOlderCheckpointHasNoCourseAndIsRead() throws {
    let folder = try Folder()
    let path = "\(folder.path)/soak.json"
    try Self.state.write(to: path)
    #expect(try !String(contentsOfFile: path, encoding: .utf8).contains("\"course\""))
    #expect(!HTMLReport(try SoakState.read(path).report()).text.contains("soak-course"))
  }

  @Test func nanosecondsAreSecondsToTheLastDigit() {
    #expect(PrometheusText.seconds(UInt64.max) == "18446744073.709551615")
    #expect(PrometheusText.seconds(Int64(-5)) == "-0.000000005")
  }
}
