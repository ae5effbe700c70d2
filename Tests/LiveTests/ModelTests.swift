import ABIChecker
import Foundation
import HostModel
import Testing

@testable import Scenarios

extension Live {
  /// The kvmclock in user space, on real VMs.
  @Suite("A kvmclock of our own")
  struct Model {
    /// One run of everything on it.
    static let run: Result<RunResult, any Error> = Result {
      let facts = try LiveHost.facts()
      var plan = RunPlan(rules: Rule.ofKVM, seed: 2015)
      plan.clock = try ClockKind.model.maker(facts)
      return try Runner.run(plan, host: facts, cancellation: Cancellation()) { _ in }
    }

    @Test(
      "keeps every rule that the kernel's clock keeps, and those that it breaks",
      arguments: Rule.ofKVM.map(\.id))
    func rule(id: String) throws {
      let verdict = try #require(try Self.run.get().verdicts.first { $0.rule == id })
      let rule = try #require(Rule.named(id))
      switch verdict.outcome {
      case .holds, .observed: break
      case .notTested(let reason):
        // KVM's own requests and its TSC; all that is the clock's must be tested.
        let movesTSC: Set<ScenarioName> = [.tscMatching, .tscOffset, .tscWrite, .tscAdjust]
        let isAboutTSC =
          movesTSC.isSuperset(of: rule.scenarios)
          || !rule.needs.isDisjoint(with: [.tscWrites, .tscOffset])
        #expect(rule.scenarios.allSatisfy(\.concernsKVM) || isAboutTSC, "\(reason)")
      case .broken(let violations): Issue.record("\(violations)")
      case .inconclusive(let reason): Issue.record("\(reason)")
      }
    }

    @Test("the matrix of policies and guests is what was claimed in 2015, and a little more")
    func policies() throws {
      let began = Date()
      let matrix = try PolicyBench.run(facts: try LiveHost.facts(), seed: 1, withKernel: true)
      #expect(-began.timeIntervalSinceNow < 30)
      func word(_ host: String, _ guest: DiscussionGuest) -> String {
        switch matrix[host, guest.id] {
        case .works: "works"
        case .wentBack(let by): by > 0 ? "back" : "none"
        case .restarted(let by): by > 0 ? "restarted" : "none"
        case .underflow(let by): by > 0 ? "underflow" : "none"
        case .notShown(let reason): reason
        case nil: "missing"
        }
      }
      let expected: [(DiscussionGuest, [String])] = [
        (.sles10, ["works", "back", "works", "works"]),
        (.rewriter, ["works", "back", "back", "works"]),
        (.replug, ["works", "back", "back", "works"]),
        (.oldMSR, ["works", "restarted", "works", "works"]),
        (.ownOffset, ["works", "restarted", "restarted", "works"]),
        (.optIn, ["works", "back", "back", "works"]),
        (.optInAgain, ["works", "back", "back", "back"]),
        (.behind, ["underflow", "underflow", "underflow", "underflow"]),
        (.behindGuarded, ["works", "restarted", "restarted", "works"]),
      ]
      let policies = [
        "keep", "counts-from-zero", "counts-from-zero-unless-old-msr", "opt-in",
      ]
      for (guest, words) in expected {
        for (policy, wanted) in zip(policies, words) {
          #expect(word(policy, guest) == wanted, "\(guest.id) on \(policy)")
        }
        if guest.lag == 0 { #expect(word("kernel", guest) == "works", "\(guest.id)") }
      }
    }
  }

  /// Every fault of the catalogue.
  @Suite("Faults")
  struct Faults {
    private func bench() throws -> FaultBench {
      FaultBench(facts: try LiveHost.facts(), seed: 2015)
    }

    @Test(
      "is caught by the rules that it is for, and breaks nothing unexplained",
      arguments: Fault.all.map(\.id))
    func fault(id: String) throws {
      let fault = try #require(Fault.all.first { $0.id == id })
      let result = try bench().run(fault)
      #expect(result.missed == [])
      #expect(result.unexplained == [])
    }

    @Test("is caught down to the size that it must be", arguments: GradedFault.all.map(\.id))
    func graded(id: String) throws {
      let fault = try #require(GradedFault.all.first { $0.id == id })
      let result = try bench().run(fault)
      #expect(result.isAsExpected, "\(result)")
    }

    @Test(
      "of a guest, a thread or KVM_RUN ends in a verdict", arguments: HarnessFault.all.map(\.id))
    func harness(id: String) throws {
      let fault = try #require(HarnessFault.all.first { $0.id == id })
      let result = try bench().run(fault)
      #expect(result.isAsExpected, "\(result)")
    }
  }
}
