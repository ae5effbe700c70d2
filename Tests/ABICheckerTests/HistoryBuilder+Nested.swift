@testable import ABIChecker

// A guest that is a hypervisor, as KVM runs it: its record is made with L1's TSC, whoever runs.

extension HistoryBuilder {
  mutating func enterL2(_ id: Int, tscOffset: UInt64) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.vcpus[id]?.l2Offset = tscOffset
      return [.ranL2(tscOffset: Hex(tscOffset))]
    }
  }

  mutating func leaveL2(_ id: Int) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.vcpus[id]?.l2Offset = nil
      return [.leftL2]
    }
  }

  /// - Parameter error: cycles by which L2's TSC is not L1's plus the offset.
  mutating func readInL2(_ id: Int, error: UInt64 = 0) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.time.pause()
      var reading = host.reading(on: id)
      reading.tsc &+= host.vcpus[id]!.l2Offset! &+ error
      return [.readInL2(address: Hex(host.vcpus[id]!.address), reading: reading, settled: true)]
    }
  }
}

extension Script {
  static let l2Offset: UInt64 = 1 << 50

  static func nested(_ host: inout HistoryBuilder) { nested(&host, whileL2Runs: { _ in }) }

  /// - Parameter act: what happens besides in each stretch in which L2 runs, before it is looked at.
  static func nested(
    _ host: inout HistoryBuilder, whileL2Runs act: (inout HistoryBuilder) -> Void
  ) {
    host.machine(0, 1)
    for id in [0, 1] {
      host.setTSCOffset(id, 1 << 44)
      host.register(id)
    }
    let reasons: [(inout HistoryBuilder) -> Void] = [
      { $0.setClock(1 << 50) },
      { $0.hostWriteMSR(0, MSR.systemTime, $0.vcpus[0]!.msr) },
      { $0.tellStopped(0) },
      { $0.hostWriteTSC(0, 1 << 48) },
      { host in for id in [0, 1] { host.setTSCOffset(id, 1 << 45) } },
      { $0.setClock(1 << 40) },
    ]
    for reason in reasons {
      host.enterL2(0, tscOffset: l2Offset)
      host.readInL2(0)
      reason(&host)
      host.enter(0)
      act(&host)
      host.look(0)
      for _ in 0..<2 {
        host.readInL2(0)
        host.hostReadTSC(0)
      }
      host.noteOffset(0)
      host.leaveL2(0)
      for id in [0, 1, 0] { host.read(id) }
    }
  }
}
