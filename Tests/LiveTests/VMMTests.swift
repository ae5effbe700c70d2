import ABIChecker
import Testing

@testable import VMM

extension Live {
  /// The toy VMM, which makes real VMs: sound without a fault, and with each fault the rules break that name it.
  @Suite struct VMMTests {
    private func broken(_ fault: ToyFault?, _ scenarios: [ScenarioName]) throws -> Set<String> {
      _ = try LiveHost.machine()
      var plan = VMMPlan()
      plan.rounds = 2
      plan.scenarios = scenarios
      plan.declared = [.restore: .standsStill]
      var timelines: [Timeline] = []
      try VMMRunner.run(
        plan, on: try ToyVMM(fault), host: HostFacts(kernel: "here", clocksource: "tsc"),
        isCancelled: { false }, keep: { timelines.append(Timeline($0)) })
      for timeline in timelines { #expect(timeline.failure == nil) }
      return Set(
        Rule.all.filter { $0.isOfVMMs || $0.concernsEveryRecord }
          .filter { $0.verdict(on: timelines).outcome.isBroken }.map(\.id))
    }

    @Test(arguments: GuestEntry.allCases)
    func theGuestCanBeEnteredInAnyMode(entry: GuestEntry) throws {
      _ = try LiveHost.machine()
      let machine = try ToyVMM(entry: entry).start(vcpus: 2, spare: 0, from: .boot)
      try machine.console.awaitHello(milliseconds: 10_000)
      machine.quit()
    }

    @Test func aToyWithoutAFaultIsSound() throws {
      #expect(try broken(nil, ScenarioName.ofVMMs).isEmpty)
    }

    @Test(arguments: ToyFault.allCases.filter { !$0.needsTSCWrites })
    func eachFaultBreaksTheRulesThatNameIt(fault: ToyFault) throws {
      let found = try broken(fault, [fault.scenario])
      #expect(found.isSuperset(of: fault.breaks), "\(fault.rawValue) broke \(found.sorted())")
    }
  }
}
