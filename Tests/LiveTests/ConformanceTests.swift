import ABIChecker
import Foundation
import Testing

@testable import Scenarios

extension Live {
  @Suite("This host's kvmclock")
  struct Conformance {
    /// One run of everything, judged rule by rule below.
    static let run: Result<(result: RunResult, histories: [History]), any Error> = Result {
      var histories: [History] = []
      let result = try Runner.run(
        RunPlan(rules: Rule.ofKVM, seed: 2015), host: try LiveHost.facts(),
        cancellation: Cancellation()
      ) { histories.append($0) }
      return (result, histories)
    }

    @Test("holds", arguments: Rule.ofKVM.map(\.id))
    func rule(id: String) throws {
      let run = try Self.run.get()
      let verdict = try #require(run.result.verdicts.first { $0.rule == id })
      switch verdict.outcome {
      case .holds, .observed: break
      case .notTested(let reason):
        // A host may lack what a rule needs, but not without saying what.
        #expect(!reason.isEmpty)
        print("not tested: \(id): \(reason)")
      case .broken(let violations): #expect(verdict.known != nil, "\(violations)")
      case .inconclusive(let reason): Issue.record("\(id): \(reason)")
      }
    }

    @Test("at least one rule in each topic was really tested")
    func somethingWasTested() throws {
      let verdicts = try Self.run.get().result.verdicts
      let held = verdicts.filter { if case .holds = $0.outcome { true } else { false } }
      #expect(held.count >= Rule.ofKVM.count / 2)
    }

    @Test("every scenario leaves a history that judges the same after it was saved")
    func savedHistories() throws {
      let run = try Self.run.get()
      let again = try run.histories.map { history in
        var copy = History(header: history.header)
        copy.events = try JSONDecoder().decode(
          [Event].self, from: JSONEncoder().encode(history.events))
        #expect(copy == history)
        return Timeline(copy)
      }
      let kept = Set(run.histories.map(\.header.scenario))
      for verdict in run.result.verdicts {
        guard let rule = Rule.named(verdict.rule),
          rule.scenarios.contains(where: { kept.contains($0.rawValue) })
        else { continue }
        #expect(Rule.named(verdict.rule)?.verdict(on: again).outcome == verdict.outcome)
      }
    }

    @Test("the same seed makes the same choices")
    func seed() throws {
      func registrations(_ seed: UInt64) throws -> [Action] {
        let host = try Host(facts: try LiveHost.facts())
        let stage = Stage(
          .registration, host: host, seed: seed, attempt: 1, cancellation: Cancellation())
        try Scenario.registration(stage)
        return stage.history.events.map(\.action).filter {
          if case .wroteMSR = $0 { true } else { false }
        }
      }
      #expect(try registrations(7) == registrations(7))
      #expect(try registrations(7) != registrations(8))
    }

    @Test("a cancelled run keeps what was recorded, and says that it was cancelled")
    func cancelled() throws {
      let cancellation = Cancellation()
      var kept: [History] = []
      let result = try Runner.run(
        RunPlan(rules: Rule.ofKVM, seed: 1), host: try LiveHost.facts(), cancellation: cancellation
      ) { history in
        kept.append(history)
        cancellation.cancel()
      }
      #expect(result.wasCancelled)
      #expect(kept.contains { !$0.events.isEmpty })
      #expect(result.verdicts.count < Rule.ofKVM.count)
    }
  }
}
