import ABIChecker
import Testing

@testable import Scenarios

extension Live {
  @Suite struct ScaledTSC {
    /// KVM's catch-up counts from the TSC written: a guest whose TSC did not follow finds a record ahead of it.
    @Test func aTSCIsRestoredOnlyWhereTheHostCanMoveIt() throws {
      var plan = RunPlan(rules: Rule.ofKVM, seed: 2015)
      plan.only = [.scaledTSC]
      var history: History?
      _ = try Runner.run(plan, host: try LiveHost.facts(), cancellation: Cancellation()) {
        history = $0
      }
      let events = try #require(history).events
      let accesses = events.compactMap { event -> (isWrite: Bool, value: UInt64)? in
        switch event.action {
        case .hostWroteMSR(_, let msr, let value) where msr.value == UInt64(MSR.tsc):
          (true, value.value)
        case .hostReadMSR(_, let msr, let value) where msr.value == UInt64(MSR.tsc):
          (false, value.value)
        default: nil
        }
      }
      let probe = try #require(accesses.firstIndex { $0.isWrite })
      let moved = accesses[probe + 1].value &- accesses[probe].value < 1 << 44
      #expect(!accesses[probe + 1].isWrite)
      #expect(accesses[(probe + 2)...].contains { $0.isWrite } == moved)
    }
  }
}
