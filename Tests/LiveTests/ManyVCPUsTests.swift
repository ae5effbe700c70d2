import ABIChecker
import KVM
import Testing

@testable import Scenarios

extension Live {
  @Suite("Many vCPUs")
  struct ManyVCPUs {
    private static func run(_ vcpus: Int) throws -> RunResult {
      let rules = Rule.all.filter { $0.isExercised(by: "many") }
      return try Runner.run(
        RunPlan(rules: rules, seed: 3, vcpus: vcpus), host: try LiveHost.facts(),
        cancellation: Cancellation()
      ) { _ in }
    }

    @Test("any number is served, also more than a page holds records of", arguments: [2, 65, 129])
    func numbers(vcpus: Int) throws {
      for verdict in try Self.run(vcpus).verdicts {
        guard case .holds(let evidence, _) = verdict.outcome else {
          Issue.record("\(verdict)")
          continue
        }
        #expect(evidence.contains(", \(vcpus) vCPUs"))
      }
    }

    @Test("a number that the host does not allow is refused before anything runs")
    func bounds() throws {
      let most = try RunPlan.mostVCPUs(on: KVMSystem())
      for vcpus in [-1, 0, most + 1, .max] {
        let error = try #require(throws: KVMError.self) { _ = try Self.run(vcpus) }
        #expect(error.description.contains("allows 1 to \(most) vCPUs; \(vcpus) were asked for"))
      }
    }
  }
}
