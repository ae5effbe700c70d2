internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// POSTCOPY-RECORD-WRITTEN: each reason for an update with the page of the record away.
  @Sendable static func postCopy(_ stage: Stage) throws {
    try stage.makeMachine()
    let memories = Memories(stage)
    for vcpu in [0, 1] {
      let page = stage.freePage(region: UInt64(vcpu) + 1)
      let memory = try memories.make()
      try memories.setSlot(UInt32(vcpu) + 1, at: page, memory)
      let record = page + UInt64.random(in: 0..<1016, using: &stage.random) * 4
      try stage.register(vcpu, at: record)
      let reasons: [() throws -> Void] = [
        { try stage.setClock(stage.random.next() >> 8) },
        { try stage.writeMSR(vcpu, MSR.systemTime, record | 1) },
        { try stage.hostWriteMSR(vcpu, MSR.systemTime, record | 1) },
        { try stage.tellStopped(vcpu) },
      ]
      for makeDue in reasons {
        for other in [0, 1] { try stage.enter(other) }
        stage.look(vcpu)
        let wasWatched = try memories.withoutPages(memory) {
          try makeDue()
          try stage.enter(vcpu)
        }
        guard wasWatched else { return }
        stage.look(vcpu)
        try stage.setClock(stage.random.next() >> 8)
        try stage.read(vcpu)
      }
    }
  }
}
