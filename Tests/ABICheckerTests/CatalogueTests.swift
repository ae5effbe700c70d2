import Foundation
import Testing

@testable import ABIChecker

@Suite struct CatalogueTests {
  static let ids = Rule.all.map(\.id)

  static func history(_ rule: Rule, _ actions: Action...) -> History {
    var host = HistoryBuilder(rule.scenarios[0])
    for action in actions { host.host(action) }
    return host.history
  }

  @Test(arguments: ids)
  func anEmptyHistoryTestsNothing(id: String) throws {
    let rule = try #require(Rule.named(id))
    try expectNotTested(id, Self.history(rule))
    #expect(rule.verdict(on: []).outcome.isNotTested)
    #expect(rule.verdict(on: [Timeline(Self.history(rule))]).outcome.isNotTested)
  }

  @Test(arguments: ids)
  func aScenarioThatCouldNotGoOnIsInconclusive(id: String) throws {
    let rule = try #require(Rule.named(id))
    let history = Self.history(rule, .failed(reason: "KVM_RUN: EIO"))
    try expectInconclusive(id, history, "ended early", "KVM_RUN: EIO")
  }

  /// Whatever held until then: the rest was not seen.
  @Test(arguments: ids)
  func aScenarioThatEndedEarlyNeverHolds(id: String) throws {
    let rule = try #require(Rule.named(id))
    var history = Script.history(of: rule.scenarios[0])
    var last = try #require(history.events.last)
    (last.number, last.action) = (last.number + 1, .failed(reason: "watchdog after 20 s"))
    history.events.append(last)
    try expectInconclusive(id, history, "watchdog after 20 s")
  }

  @Test(arguments: ids)
  func whatTheHostLacksIsTheReason(id: String) throws {
    let rule = try #require(Rule.named(id))
    let history = Self.history(rule, .lacking(what: "KVM_CAP_X", evidence: "returns 0"))
    let outcome = rule.judge(history)
    #expect(outcome.isNotTested, "\(outcome)")
  }

  @Test func everyRuleHasAnIdOfItsOwn() {
    #expect(Set(Self.ids).count == Self.ids.count)
    #expect(Self.ids.allSatisfy { Rule.named($0)?.id == $0 })
    #expect(Rule.named("NO-SUCH-RULE") == nil)
    #expect(Rule.named("rate-raw") == nil)
  }

  @Test(arguments: ids)
  func aRuleSaysWhatItIs(id: String) throws {
    let rule = try #require(Rule.named(id))
    #expect(id.count >= 3)
    #expect(id.allSatisfy { $0 == "-" || $0.isNumber || $0.isUppercase })
    for text in [rule.statement, rule.source, rule.method] {
      #expect(text.count >= 10 && text == text.split(separator: "\n").joined())
      #expect(text.first?.isWhitespace == false && text.last?.isWhitespace == false)
    }
    #expect(!rule.sources.isEmpty && rule.sources.allSatisfy { $0.text.count >= 5 })
    #expect(rule.isObservation || !rule.coverage.isEmpty)
    #expect(rule.statement.hasSuffix(".") && rule.method.hasSuffix("."))
    #expect(!rule.scenarios.isEmpty)
    #expect(Set(rule.scenarios).count == rule.scenarios.count)
  }

  @Test(arguments: ScenarioName.allCases)
  func everyScenarioExercisesARule(scenario: ScenarioName) {
    let rules = Rule.all.filter { $0.isExercised(by: scenario.rawValue) }
    #expect(!rules.isEmpty)
    #expect(rules.allSatisfy { $0.concerns(scenario.rawValue) })
  }

  /// The argument of 2015 is that guests rely on it: none of its rules may rest on the implementation alone.
  @Test func theDiscussionOf2015RestsOnMoreThanTheImplementation() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../../docs/2015.md")
    let text = try String(contentsOf: path, encoding: .utf8)
    let rules = Rule.all.filter { text.contains($0.id) }
    #expect(rules.count >= 20)
    for rule in rules { #expect(!rule.restsOnImplementation, "\(rule.id)") }
  }

  @Test func aRuleThatIsJudgedEverywhereConcernsEveryScenario() {
    for rule in Rule.all {
      #expect(rule.concerns("of another version") == rule.everywhere, "\(rule.id)")
      #expect(!rule.isExercised(by: "of another version"), "\(rule.id)")
    }
  }
}
