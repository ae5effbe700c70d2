import ABIChecker
import Foundation
import Synchronization
import Testing

@testable import VMM

extension Live {
  /// The toy VMM, which makes real VMs: sound without a fault, and with each fault the rules break that name it.
  @Suite struct VMMTests {
    /// The rules that break, each with what it says.
    private func broken(
      _ fault: ToyFault?, _ scenarios: [ScenarioName], rounds: Int = 2,
      between: @escaping () -> Void = {}
    ) throws -> [String: String] {
      _ = try LiveHost.machine()
      var plan = VMMPlan()
      plan.rounds = rounds
      plan.scenarios = scenarios
      plan.declared = [.restore: .standsStill]
      var timelines: [Timeline] = []
      _ = try VMMRunner.run(
        plan, on: try ToyVMM(fault, between: between),
        host: HostFacts(kernel: "here", clocksource: "tsc"),
        isCancelled: { false }, keep: { timelines.append(Timeline($0)) })
      for timeline in timelines { #expect(timeline.failure == nil) }
      let verdicts = Rule.all.filter { $0.isOfVMMs || $0.concernsEveryRecord }
        .map { ($0.id, $0.verdict(on: timelines).outcome) }
      return Dictionary(
        uniqueKeysWithValues: verdicts.filter { $0.1.isBroken }.map { ($0, "\($1)") })
    }

    @Test(arguments: GuestEntry.allCases)
    func theGuestCanBeEnteredInAnyMode(entry: GuestEntry) throws {
      _ = try LiveHost.machine()
      let machine = try ToyVMM(entry: entry).start(vcpus: 2, spare: 0, from: .boot)
      try machine.console.awaitHello(milliseconds: 10_000)
      machine.quit()
    }

    /// On a slow host the guest's first line is asked for again before the guest is there.
    @Test(
      .enabled(
        if: access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs Debian's qemu-system-x86"),
      arguments: ["q35", "microvm"], [1, 3])
    func aQuestionBeforeTheGuestIsThereStopsNoOther(machine: String, early: Int) throws {
      _ = try LiveHost.machine()
      let qemu = try QEMU(
        binary: nil, machine: machine, options: ["-S"], isCancelled: { false })
      let guest = try qemu.start(vcpus: 1, spare: 0, from: .boot)
      defer { guest.quit() }
      for _ in 0..<early {
        guest.console.say("h")
        usleep(50_000)
      }
      try guest.resume()
      try guest.console.awaitHello(milliseconds: 20_000)
      #expect(try guest.console.ask("r", milliseconds: 20_000).answer.vcpus.count == 1)
    }

    @Test func aToyWithoutAFaultIsSound() throws {
      let found = try broken(nil, ScenarioName.ofVMMs)
      #expect(found.isEmpty, "\(found)")
    }

    /// A VMM that loses its CPU between any two steps is slow, not wrong.
    @Test func aToyOnABusyHostIsNotBroken() throws {
      let found = try broken(nil, ScenarioName.ofVMMs) {
        usleep(.random(in: 0...15_000))
      }
      #expect(found.isEmpty, "\(found)")
    }

    /// A host that is too busy to tell is asked again; the answers of the first run come late.
    @Test func aRunThatCannotTellIsRepeated() throws {
      _ = try LiveHost.machine()
      let runs = Mutex(0)
      let isSlow = { @Sendable in
        if runs.withLock({ $0 == 0 }) { usleep(15_000) }
        return false
      }
      var plan = VMMPlan()
      (plan.vcpus, plan.rounds, plan.scenarios) = (1, 1, [.vmmRun])
      var timelines: [Timeline] = []
      let retries = try VMMRunner.run(
        plan, on: try ToyVMM(isCancelled: isSlow),
        host: HostFacts(kernel: "here", clocksource: "tsc"), isCancelled: { false },
        keep: { history in
          timelines.append(Timeline(history))
          runs.withLock { $0 += 1 }
        })
      #expect(retries >= 1 && timelines.count == retries + 1)
      #expect(timelines.map(\.history.header.attempt) == Array(1...timelines.count))
      let rule = try #require(Rule.all.first { $0.id == "VMM-CLOCK-RUNS" })
      #expect(rule.judge(timelines[0]).isInconclusive)
      #expect(rule.verdict(on: timelines).status == .holds)
    }

    @Test(arguments: ToyFault.allCases.filter { !$0.needsTSCWrites })
    func eachFaultBreaksTheRulesThatNameIt(fault: ToyFault) throws {
      // One round each is quicker; only this fault needs a file that was saved before.
      let rounds = fault == .firstSaveRestored ? 2 : 1
      let found = try broken(fault, [fault.scenario], rounds: rounds)
      #expect(Set(found.keys).isSuperset(of: fault.breaks), "\(fault.rawValue) broke \(found)")
    }
  }
}
