import ABIChecker
import Foundation
import KVM
import Synchronization
import Testing

@testable import Scenarios
@testable import VMBuilder

extension Live {
  @Suite("A host on which no guest runs")
  struct NoGuestRuns {
    private func run(
      _ sabotage: Sabotage, rules: [Rule] = Rule.ofKVM
    ) throws -> (result: RunResult, histories: Int, seconds: Double) {
      var plan = RunPlan(rules: rules, seed: 2015)
      plan.sabotage = sabotage
      let began = Date()
      var histories = 0
      let result = try Runner.run(
        plan, host: try LiveHost.facts(), cancellation: Cancellation()
      ) { _ in histories += 1 }
      return (result, histories, -began.timeIntervalSinceNow)
    }

    private func expectNothingTested(_ result: RunResult) {
      #expect(result.verdicts.count == Rule.ofKVM.count)
      for verdict in result.verdicts {
        guard case .notTested(let reason) = verdict.outcome else {
          Issue.record("\(verdict.rule): \(verdict.outcome)")
          continue
        }
        #expect(reason.hasPrefix("no guest runs: vcpu0"))
      }
      #expect(!result.wasCancelled)
    }

    @Test("ends the run before the first scenario, and every rule says why")
    func endlessLoop() throws {
      let (result, histories, seconds) = try run(.guest(code: [0xeb, 0xfe]))
      #expect(result.noGuestRuns?.contains("did not answer within") == true)
      #expect(histories == 0)
      #expect(seconds < 30)
      expectNothingTested(result)
    }

    @Test("ends the run even if KVM_RUN does not come back when it is kicked")
    func lostThread() throws {
      let (result, histories, seconds) = try run(
        .run { () throws(KVMError) in
          while true { sleep(3600) }
        })
      #expect(result.noGuestRuns?.contains("did not come back from KVM_RUN") == true)
      #expect(histories == 0)
      #expect(seconds < 30)
      expectNothingTested(result)
    }

    @Test("ends the run after three scenarios in a row whose guest did not come back")
    func threeInARow() throws {
      let boots = Counter()
      var sabotage = Sabotage.guest(code: [0xeb, 0xfe])
      let hang = sabotage.afterBoot
      // The probe's guest is left alone.
      sabotage.afterBoot = { vcpu, image, memory in
        if boots.next() > 1 { hang(vcpu, image, memory) }
      }
      let (result, histories, seconds) = try run(sabotage)
      #expect(result.noGuestRuns?.contains("and so in 3 scenarios in a row") == true)
      #expect(histories >= 3)
      #expect(seconds < 30)
      #expect(result.verdicts.count == Rule.ofKVM.count)
      #expect(
        result.verdicts.contains {
          if case .notTested(let reason) = $0.outcome {
            reason.hasPrefix("no guest runs: ")
          } else {
            false
          }
        })
    }

    @Test("is not what a guest shows that comes back in between, or whose answer is nonsense")
    func notInARow() throws {
      var watch = GuestWatch()
      let late = ScenarioRuns(
        lostGuest: .deadlinePassed(vcpu: 0, milliseconds: 5000, at: nil))
      for runs in [late, late, ScenarioRuns(), late, late] { watch.saw(runs) }
      #expect(watch.reason == nil)
      watch.saw(late)
      #expect(watch.reason?.contains("did not answer") == true)
      #expect(watch.reason?.hasSuffix(", and so in 3 scenarios in a row") == true)
      #expect(MachineError.threadLost(vcpu: 0).isLostGuest)
      watch = GuestWatch()
      let lost = ScenarioRuns(lostGuest: .threadLost(vcpu: 1))
      for runs in [lost, ScenarioRuns(), lost] { watch.saw(runs) }
      #expect(watch.reason == nil)
      watch.saw(lost)
      #expect(
        watch.reason?.hasSuffix("after 2 s of kicks, and so in 2 scenarios in a row") == true)
      let entry = VCPUExit.failEntry(reason: 0x8000_0021, cpu: 0)
      #expect(MachineError.guestStopped(vcpu: 0, exit: entry, at: nil).isLostGuest)
      #expect(!MachineError.guestStopped(vcpu: 0, exit: .shutdown, at: nil).isLostGuest)
      #expect(!MachineError.cancelled.isLostGuest)
      #expect(!MachineError.mailboxUnreadable(vcpu: 0, reason: "").isLostGuest)
    }
  }
}

private final class Counter: Sendable {
  private let count = Atomic(0)
  func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}
