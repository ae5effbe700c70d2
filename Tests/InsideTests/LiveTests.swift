import ABIChecker
import PVClock
import Testing

@testable import Inside

/// The machine on which the tests run, where it is a guest that shows its record.
@Suite(.serialized) struct LiveTests {
  static let view = GuestView.current()
  static var whyNot: Comment { Comment(rawValue: view.absence?.reason ?? "a record") }

  @Test(.enabled(if: view.record != nil, whyNot))
  func nothingIsBrokenHere() throws {
    let history = Recording.make(of: Self.view, nanoseconds: 2_000_000_000)
    for rule in Rule.all where rule.inside != nil {
      let verdict = rule.verdict(on: [Timeline(history)])
      #expect(verdict.status != .broken, "\(rule.id): \(verdict.outcome)")
    }
    #expect(InsideFigures(Timeline(history)).reads > 100_000)
  }

  @Test func absenceOrARecord() {
    #expect((Self.view.record == nil) == (Self.view.absence != nil))
  }

  @Test func aHistoryWithoutARecordSaysWhy() {
    var view = Self.view
    view.record = nil
    view.absence = Absence(GuestFacts(isVirtual: false), hasPages: true)
    let history = Recording.make(of: view, nanoseconds: 1)
    let outcome = Rule.named("MONO-VCPU")?.judge(history)
    guard case .notTested(let reason) = outcome else {
      Issue.record("\(String(describing: outcome))")
      return
    }
    #expect(reason.contains("no virtual machine"))
    // No rule is said to hold, or to lack something else.
    for rule in Rule.all where rule.inside != nil {
      let found = rule.judge(history)
      #expect(found == .notTested(reason: reason), "\(rule.id): \(found)")
    }
  }

  @Test func theTSCIsMeasuredWhereNothingElseIsLeft() {
    let figures = TSCFigures.measure(on: usableCPUs(), nanoseconds: 50_000_000)
    #expect(figures.reads > 1000 && figures.hertz > 100_000_000)
  }
}
