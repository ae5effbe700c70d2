import PVClock
import Testing

@testable import ABIChecker

@Suite struct ArithmeticTests {
  @Test(
    arguments: [
      (Interval(0, 0), 0, 0), (Interval(0, 0), 1, 1), (Interval(0, 0), -1, -1),
      (Interval(-5, 5), -5, 0), (Interval(-5, 5), 5, 0), (Interval(-5, 5), 6, 1),
      (Interval(-5, 5), -9, -4), (Interval(10, 20), 0, -10),
    ] as [(Interval, Int128, Int128)])
  func anIntervalHasItsEnds(interval: Interval, value: Int128, distance: Int128) {
    #expect(interval.contains(value) == (distance == 0))
    #expect(interval.distance(to: value) == distance)
  }

  @Test func noIntervalOverflowsOn64BitClocks() {
    let whole = Interval(-(1 << 65), 1 << 65)
    #expect(whole.width == 1 << 66)
    #expect(whole.contains(Int128(UInt64.max)) && whole.contains(-Int128(UInt64.max)))
  }

  @Test(
    arguments: [
      (5, 3, 2), (3, 5, -2), (0, .max, 1), (.max, 0, -1), (1 << 63, 0, -(1 << 63)),
      (0, 1 << 63, -(1 << 63)), ((1 << 63) - 1, 0, (1 << 63) - 1), (7, 7, 0),
    ] as [(UInt64, UInt64, Int128)])
  func aDifferenceOfWrappingClocksIsTheNearest(later: UInt64, earlier: UInt64, expected: Int128) {
    #expect(difference(later, earlier) == expected)
  }

  @Test(
    arguments: [
      (250, 1_000_000_000, 250), (250, 1, 1), (250, 0, 0), (250, -7, 0), (0, 1 << 64, 0),
      (1_000_000_000, 1 << 64, 1 << 64), (1, 999_999_999, 1), (1, 1_000_000_001, 2),
    ] as [(Int128, Int128, Int128)])
  func aShareIsRoundedUp(parts: Int128, span: Int128, expected: Int128) {
    #expect(share(parts, of: span) == expected)
  }

  @Test(
    arguments: [
      (0, "0 ns"), (999, "999 ns"), (-999, "-999 ns"), (1000, "1000 ns (1.0 us)"),
      (-1500, "-1500 ns (-1.5 us)"), (20_134_567, "20134567 ns (20.1 ms)"),
      (999_949, "999949 ns (999.9 us)"), (2_000_000_000, "2000000000 ns (2.0 s)"),
      (3_600_000_000_000, "3600000000000 ns (1.0 h)"),
      (-86_400_000_000_000, "-86400000000000 ns (-1.0 days)"),
      (1 << 64, "18446744073709551616 ns (213504.0 days)"),
    ] as [(Int128, String)])
  func nanosecondsAreExactAndShort(value: Int128, text: String) {
    #expect(nanoseconds(value) == text)
  }

  @Test func timeBetweenEventsHasALeastAndAMost() {
    func event(_ began: UInt64, _ ended: UInt64) -> Event {
      Event(
        number: 1, actor: .host, began: Instant(tsc: 0, raw: began),
        ended: Instant(tsc: 0, raw: ended), action: .tick)
    }
    #expect(event(10, 25).width == 15)
    #expect(event(10, 20).elapsed(to: event(50, 90)) == Interval(30, 80))
    #expect(event(10, 60).elapsed(to: event(50, 90)) == Interval(0, 80))
    #expect(event(50, 90).elapsed(to: event(10, 20)) == Interval(0, 0))
    #expect(event(0, 0).elapsed(to: event(.max, .max)).width == 0)
  }
}

@Suite struct FindingsTests {
  static let events = HistoryBuilder().history.events
  static let timeline = Timeline(HistoryBuilder().history)

  static func outcome(
    atLeast minimum: Int = 1, _ collect: (inout Findings) -> Void
  ) -> Outcome {
    var findings = Findings()
    collect(&findings)
    return findings.outcome(covering: [.observations(minimum, "things")], in: timeline)
  }

  @Test func twentyProofsAreShownAndAllAreCounted() {
    let outcome = Self.outcome { findings in
      for number in 1...53 {
        findings.expect(false, at: [], "expected \(number)", seen: "seen \(number)")
      }
    }
    guard case .broken(let violations) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(violations.count == 20)
    #expect(violations.map(\.expected) == (1...20).map { "expected \($0)" })
    #expect(violations.last?.seen == "seen 20 (and 33 more like these)")
    #expect(violations.dropLast().allSatisfy { !$0.seen.contains("more") })
  }

  @Test func upToTwentyNothingIsLeftOut() {
    let outcome = Self.outcome { findings in
      for _ in 1...20 { findings.expect(false, at: [], "e", seen: "s") }
    }
    guard case .broken(let violations) = outcome else { return }
    #expect(violations.count == 20 && violations.allSatisfy { $0.seen == "s" })
  }

  @Test func enoughObservationsHold() {
    let holds: (inout Findings) -> Void = { findings in
      for _ in 0..<3 { findings.expect(true, at: [], "", seen: "") }
    }
    #expect(Self.outcome(atLeast: 3, holds) == .holds(evidence: "3 things"))
    #expect(
      Self.outcome(atLeast: 4, holds)
        == .notTested(reason: "saw 3 things; needs at least 4 things"))
    #expect(
      Self.outcome(atLeast: 0) { _ in } == .notTested(reason: "saw nothing of what it judges"))
  }

  /// Each demand by itself: seen in full, and one short of it.
  @Test(arguments: [
    (Coverage.count(2, "calls"), "saw 1 calls; needs at least 2 calls"),
    (.different(2, "MSRs"), "saw 1 different MSRs (a); needs at least 2 different MSRs"),
    (.each(["a", "b"], "MSRs"), "MSRs: did not see b; needs MSRs: each of a, b"),
    (
      .everyVCPU(), "vCPUs: did not see vcpu1; needs every vCPU of the machine (vCPUs)"
    ),
  ])
  func whatASentenceAsksForHasToBeSeen(demand: Coverage, shortage: String) {
    var host = HistoryBuilder()
    host.machine(0, 1)
    let timeline = Timeline(host.history)
    var findings = Findings()
    findings.expect(true, at: [], "", seen: "")
    findings.count("calls")
    findings.cover("a", of: "MSRs")
    findings.cover(vcpu: 0)
    #expect(findings.outcome(covering: [demand], in: timeline) == .notTested(reason: shortage))
    findings.count("calls")
    findings.cover("b", of: "MSRs")
    findings.cover(vcpu: 1)
    #expect(findings.outcome(covering: [demand], in: timeline).holds)
  }

  @Test func whatIsTooWideDoesNotCountUnlessItIsOutside() {
    let wide = Self.outcome { findings in
      findings.expect(0, in: Interval(-50, 51), limit: 100, at: [], "step", why: "")
    }
    #expect(
      wide
        == .inconclusive(
          reason: "step: the allowed interval is 101 ns wide, more than 100 ns says nothing"))
    let just = Self.outcome { findings in
      findings.expect(0, in: Interval(-50, 50), limit: 100, at: [], "step", why: "")
    }
    #expect(
      just
        == .holds(
          evidence: "1 things, intervals 100 ns to 100 ns wide",
          closest: Measure(what: "step", lower: -50, upper: 50, value: 0)))
    let outside = Self.outcome { findings in
      findings.expect(9000, in: Interval(-50, 51), limit: 100, at: [], "step", why: "so")
    }
    #expect(
      outside
        == .broken(violations: [
          Violation(
            expected: "step in [-50 ns, 51 ns]: so",
            seen: "9000 ns (9.0 us), 8949 ns (8.9 us) too high", events: [],
            history: "registration.1",
            measure: Measure(what: "step", lower: -50, upper: 51, value: 9000))
        ]))
  }

  @Test func theClosestObservationIsTheOneNearestToAnEndOfItsInterval() {
    let outcome = Self.outcome { findings in
      for (value, width) in [(50, 100), (990, 1000), (8, 8), (11, 100)] as [(Int128, Int128)] {
        findings.expect(value, in: Interval(0, width), at: [], "\(value)", why: "")
      }
    }
    guard case .holds(_, let closest?) = outcome else { return #expect(Bool(false)) }
    #expect(closest == Measure(what: "990", lower: 0, upper: 1000, value: 990))
    #expect(closest.position == 0.99)
    #expect(closest.margin > 0.0099 && closest.margin < 0.0101)
  }

  @Test func aMeasureOutsideOfItsIntervalHasANegativeMargin() {
    #expect(Measure(-5, in: Interval(0, 10), what: "").margin == -0.5)
    #expect(Measure(5, in: Interval(4, 4), what: "").margin < 0)
    #expect(Measure(4, in: Interval(4, 4), what: "").margin == 0.5)
    #expect(Measure(1 << 100, in: Interval(0, 1 << 90), what: "").value == .max)
  }

  @Test func theReasonIsTheMostTellingOne() {
    let both = Self.outcome { findings in
      findings.lacks("no TSC")
      findings.expect(0, in: Interval(0, 9), limit: 1, at: [], "step", why: "")
    }
    #expect(both.isInconclusive)
    #expect(
      Self.outcome { findings in
        findings.lacks("no TSC")
        findings.lacks("no page")
      } == .notTested(reason: "no TSC"))
  }
}
