import ABIChecker
import Testing

@testable import HostModel

/// The catalogue of faults, as far as it can be looked at without KVM.
@Suite struct FaultCatalogueTests {
  @Test func everyRuleHasAFault() { #expect(FaultBench.unproved == []) }

  @Test func faultsNameRulesThatExistAndSayWhyOthersBreak() {
    #expect(Set(Fault.all.map(\.id)).count == Fault.all.count)
    for fault in Fault.all {
      #expect(!fault.rules.isEmpty && !fault.meaning.isEmpty, "\(fault.id)")
      for rule in fault.rules + fault.also {
        #expect(Rule.named(rule) != nil, "\(fault.id) \(rule)")
      }
      #expect(fault.also.isEmpty == fault.reason.isEmpty, "\(fault.id)")
      #expect(Set(fault.rules).isDisjoint(with: fault.also), "\(fault.id)")
    }
  }

  /// Those whose histories are built in need no KVM.
  @Test(arguments: (Fault.tsc + Fault.hostChanges).map(\.id))
  func aFaultOfARecordingIsCaught(id: String) throws {
    let fault = try #require(Fault.all.first { $0.id == id })
    let result = try FaultBench(facts: HostFacts(kernel: "none"), seed: 1).run(fault)
    #expect(result.missed == [])
    #expect(result.unexplained == [])
  }
}
