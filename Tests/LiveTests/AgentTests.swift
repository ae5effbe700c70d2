import Testing

@testable import VMBuilder

extension Live {
  @Suite("The agent, in every mode")
  struct Agent {
    static let images: [GuestImage] = [.agentReal, .agentProtected, .agentLong]

    private func ask(_ image: GuestImage, _ request: GuestRequest) throws -> GuestReply {
      let machine = try LiveHost.machine()
      try machine.boot(0, image)
      return try machine.ask(0, request).value
    }

    @Test("a read of an MSR that does not exist comes back as #GP", arguments: images)
    func generalProtection(image: GuestImage) throws {
      let machine = try LiveHost.machine()
      try machine.boot(0, image)
      let fault = try #require(try machine.ask(0, .readMSR(0x4b56_4dff)).value.fault)
      #expect(fault.vector == 13)
      #expect(fault.errorCode == 0)
      // The guest goes on with the next request.
      #expect(try machine.ask(0, .nothing()).value.status == .done)
    }

    @Test(
      "an invalid instruction comes back as #UD",
      arguments: [GuestImage.agentProtected, .agentLong])
    func invalidOpcode(image: GuestImage) throws {
      #expect(try ask(image, .invalidOpcode()).fault?.vector == 6)
    }

    @Test("what ring 3 may not do comes back as #GP, and the agent serves both rings after it")
    func ring3() throws {
      let machine = try LiveHost.machine()
      // There is no request that reads an MSR in ring 3, so make one.
      var request = GuestRequest.readMSR(0x4b56_4d01)
      request.ring = 3
      #expect(try machine.ask(0, request).value.fault?.vector == 13)
      #expect(try machine.ask(0, .readTSC(ring: 3)).value.result0 > 0)
      #expect(try machine.ask(0, .readMSR(0x4b56_4d01)).value.fault == nil)
      #expect(try machine.ask(0, .invalidOpcode(ring: 3)).value.fault?.vector == 6)
    }

    @Test("memory, CPUID and the TSC are read alike", arguments: images)
    func requests(image: GuestImage) throws {
      let machine = try LiveHost.machine()
      try machine.boot(0, image)
      let address = Layout.clockPage(0) + 0x123 * 4
      #expect(try machine.ask(0, .store32(0x1234_5678, at: address)).value.status == .done)
      #expect(machine.memory.load32(at: Int(address)) == 0x1234_5678)
      #expect(try machine.ask(0, .load32(at: address)).value.result0 & 0xffff_ffff == 0x1234_5678)
      let leaf = try machine.ask(0, .cpuid(0x4000_0000)).value
      #expect(leaf.result0 >> 32 == 0x4b4d_564b)
      let first = try machine.ask(0, .readTSC()).value.result0
      #expect(try machine.ask(0, .readTSC()).value.result0 > first)
    }

    @Test("a request that it does not know is refused, not guessed at", arguments: images)
    func unknown(image: GuestImage) throws {
      #expect(try ask(image, .unknown).status == .unknownRequest)
    }

    @Test("a registration is valid in the entry that made it", arguments: images)
    func registration(image: GuestImage) throws {
      let record = Layout.clockPage(0) + 128
      let reply = try ask(image, .writeMSR(0x4b56_4d01, record | 1, thenReadClockAt: record))
      #expect(reply.status == .done)
      #expect(reply.reading.page.version > 0 && reply.reading.page.version % 2 == 0)
      #expect(reply.reading.page.scale.isNormalized)
    }

    @Test("the rewriter's writes all reach the host: each one moves the version")
    func rewriterWrites() throws {
      let machine = try LiveHost.machine()
      try machine.boot(0, .rewriter)
      let record = Layout.clockPage(0) + 128
      try machine.begin(0, .rewrite(0x4b56_4d01, record | 1, count: 100))
      #expect(try machine.finish(0).value.status == .done)
      #expect(machine.loop(0).reads == 100)
      #expect(machine.loop(0).versions == 99)
      #expect(machine.record(at: record).version >= 200)
    }

    @Test("a version that stays odd is reported, with the record", arguments: images)
    func oddVersion(image: GuestImage) throws {
      let machine = try LiveHost.machine()
      try machine.boot(0, image)
      let record = Layout.clockPage(0)
      machine.memory.store32(7, at: Int(record))
      let reply = try machine.ask(0, .readClock(at: record)).value
      #expect(reply.status == .neverEven)
      #expect(reply.reading.page.version == 7)
    }
  }
}
