import Glibc
import KVM
import Testing

extension LiveKVMTests {
  @Test func `the dirty log marks the written page once`() throws {
    // mov byte [0x2345], 1; hlt; hlt
    let guest = try RealModeGuest(
      [0xC6, 0x06, 0x45, 0x23, 0x01, 0xF4, 0xF4], flags: .logDirtyPages)
    _ = try guest.machine.dirtyLog(slot: 0, pageCount: 8)
    try guest.expectExit(.halt)
    #expect(guest.memory.read(at: 0x2345, count: 1) == [1])
    #expect(
      try guest.machine.dirtyLog(slot: 0, pageCount: 8)
        == [false, false, true, false, false, false, false, false])
    try guest.expectExit(.halt)
    #expect(try !guest.machine.dirtyLog(slot: 0, pageCount: 8).contains(true))
  }

  @Test(
    .enabled(if: Host.has(.manualDirtyLogProtect), "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is missing"))
  func `a log that is cleared by hand keeps its pages until then`() throws {
    let guest = try RealModeGuest([0xC6, 0x06, 0x45, 0x23, 0x01, 0xF4, 0xF4])
    try guest.machine.enableCapability(.manualDirtyLogProtect, arguments: [1])
    try guest.machine.setMemoryRegion(
      slot: 0, flags: .logDirtyPages, guestPhysicalAddress: 0, memory: guest.memory)
    try guest.expectExit(.halt)
    let written = try guest.machine.dirtyLog(slot: 0, pageCount: 8)
    #expect(written[2])
    #expect(try guest.machine.dirtyLog(slot: 0, pageCount: 8) == written)
    try guest.machine.clearDirtyLog(slot: 0, pages: written)
    #expect(try !guest.machine.dirtyLog(slot: 0, pageCount: 8).contains(true))
  }

  @Test(.enabled(if: Host.has(.dirtyLogRing), "KVM_CAP_DIRTY_LOG_RING is missing"))
  func `a dirty ring names the written page, once for each reset`() throws {
    // mov byte [0x2345], 1; hlt; mov byte [0x2345], 2; hlt
    let guest = try RealModeGuest(
      [0xC6, 0x06, 0x45, 0x23, 0x01, 0xF4, 0xC6, 0x06, 0x45, 0x23, 0x02, 0xF4],
      flags: .logDirtyPages, dirtyRing: 65536)
    let ring = try DirtyRing(of: guest.vcpu, byteCount: 65536)
    for _ in 0..<2 {
      try guest.expectExit(.halt)
      let pages = ring.harvest()
      #expect(pages.contains(DirtyPage(slot: 0, page: 2)))
      #expect(ring.harvest().isEmpty)
      #expect(try guest.machine.resetDirtyRings() == pages.count)
    }
  }

  @Test func `a slot with more pages than asked for is an error and no overflow`() throws {
    let guest = try RealModeGuest([0xF4], size: 65 * 4096, flags: .logDirtyPages)
    #expect(try guest.machine.dirtyLog(slot: 0, pageCount: 65).count == 65)
    #expect(try guest.machine.dirtyLog(slot: 0, pageCount: 66).count == 66)
    let error = try #require(throws: KVMError.self) {
      _ = try guest.machine.dirtyLog(slot: 0, pageCount: 64)
    }
    #expect(error == KVMError(request: "KVM_GET_DIRTY_LOG", errno: EFAULT))
  }

  @Test func `a slot without a dirty log says so`() throws {
    let guest = try RealModeGuest([0xF4])
    let error = try #require(throws: KVMError.self) {
      _ = try guest.machine.dirtyLog(slot: 0, pageCount: 8)
    }
    #expect(error == KVMError(request: "KVM_GET_DIRTY_LOG", errno: ENOENT))
  }

  @Test(.enabled(if: Host.has(.readOnlyMemory), "KVM_CAP_READONLY_MEM is missing"))
  func `a write to a read-only slot is MMIO and leaves the memory alone`() throws {
    // mov al, [0x9010]; mov [0x9011], al; hlt
    let guest = try RealModeGuest([0xA0, 0x10, 0x90, 0xA2, 0x11, 0x90, 0xF4])
    let constant = try GuestMemory(size: 4096)
    constant.fill(0x77, at: 0, count: 4096)
    try guest.machine.setMemoryRegion(
      slot: 1, flags: .readOnly, guestPhysicalAddress: 0x9000, memory: constant)
    try guest.expectExit(.mmioWrite(address: 0x9011, length: 1, value: 0x77))
    try guest.expectExit(.halt)
    #expect(constant.read(at: 0x11, count: 1) == [0x77])
    try guest.machine.deleteMemoryRegion(slot: 1)
  }

  @Test func `a deleted slot is unmapped for the guest`() throws {
    // mov al, [0x9000]; hlt
    let guest = try RealModeGuest([0xA0, 0x00, 0x90, 0xF4])
    let extra = try GuestMemory(size: 4096)
    try guest.machine.setMemoryRegion(slot: 1, guestPhysicalAddress: 0x9000, memory: extra)
    try guest.machine.deleteMemoryRegion(slot: 1)
    try guest.expectExit(.mmioRead(address: 0x9000, length: 1))
  }

  @Test func `a slot that overlaps another is refused with a remedy`() throws {
    let guest = try RealModeGuest([0xF4])
    let extra = try GuestMemory(size: 4096)
    let error = try #require(throws: KVMError.self) {
      try guest.machine.setMemoryRegion(slot: 1, guestPhysicalAddress: 0x7000, memory: extra)
    }
    #expect(error == KVMError(request: "KVM_SET_USER_MEMORY_REGION", errno: EEXIST))
  }

  // In processes of their own, for other tests make and drop VMs and memories beside these.

  @Test func `memory stays until its owner, its VM and the VM's vCPUs have gone`() async {
    await #expect(processExitsWith: .success) {
      func guest() throws -> VCPU {
        let memory = try GuestMemory(showing: SharedPages(size: 0x2000))
        // inc byte [0x1800]; hlt
        memory.write([0xFE, 0x06, 0x00, 0x18, 0xF4], at: 0x1000)
        let machine = try KVMSystem().createVM()
        try machine.setIdentityMapAddress(0xFFFB_C000)
        try machine.setTSSAddress(0xFFFB_D000)
        try machine.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)
        let vcpu = try machine.createVCPU(id: 0)
        var special = try vcpu.specialRegisters()
        (special.cs.base, special.cs.selector) = (0, 0)
        try vcpu.setSpecialRegisters(special)
        var registers = Registers()
        (registers.rip, registers.rsp, registers.rflags) = (0x1000, 0x1000, 2)
        try vcpu.setRegisters(registers)
        return vcpu
      }
      func run() throws {
        var vcpu = try guest()
        #expect(try guestMemories() == 1)
        let exit = try vcpu.run()
        #expect(exit == .halt)
      }
      try run()
      #expect(try guestMemories() == 0)
    }
  }

  @Test func `a slot keeps its memory over a refused change, and until it is deleted`() async {
    await #expect(processExitsWith: .success) {
      func memory() throws -> GuestMemory { try GuestMemory(showing: SharedPages(size: 4096)) }
      let machine = try KVMSystem().createVM()
      try machine.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory())
      #expect(try guestMemories() == 1)
      #expect(throws: KVMError.self) {
        try machine.setMemoryRegion(slot: 0, guestPhysicalAddress: 1, memory: memory())
      }
      #expect(try guestMemories() == 1)
      try machine.deleteMemoryRegion(slot: 0)
      #expect(try guestMemories() == 0)
    }
  }

  @Test func `descriptors are closed when VMs and vCPUs are dropped`() async {
    await #expect(processExitsWith: .success) {
      let before = try kvmDescriptors()
      for _ in 0..<20 {
        let guest = try RealModeGuest([0xF4])
        let second = try guest.machine.createVCPU(id: 1)
        #expect(second.id == 1)
        #expect(try kvmDescriptors() == before + 3)
      }
      #expect(try kvmDescriptors() == before)
    }
  }

  @Test func `a vCPU that could not be made leaves no descriptor behind`() async {
    await #expect(processExitsWith: .success) {
      let machine = try KVMSystem().createVM()
      let first = try machine.createVCPU(id: 0)
      let before = try kvmDescriptors()
      let error = try #require(throws: KVMError.self) { _ = try machine.createVCPU(id: 0) }
      #expect(error == KVMError(request: "KVM_CREATE_VCPU", errno: EEXIST))
      #expect(try kvmDescriptors() == before)
      #expect(first.id == 0)
    }
  }
}

/// How many memories of shared pages this process has mapped.
private func guestMemories() throws -> Int {
  let file = try #require(fopen("/proc/self/maps", "r"))
  defer { fclose(file) }
  var count = 0
  var line = [CChar](repeating: 0, count: 512)
  while fgets(&line, Int32(line.count), file) != nil {
    if strstr(line, "guest memory") != nil { count += 1 }
  }
  return count
}

/// How many of this process's descriptors are KVM's; others may come and go beside these tests.
private func kvmDescriptors() throws -> Int {
  let folder = try #require(opendir("/proc/self/fd"))
  defer { closedir(folder) }
  var count = 0
  while let entry = readdir(folder) {
    let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    var target = [UInt8](repeating: 0, count: 64)
    let length = target.withUnsafeMutableBytes { buffer in
      readlink("/proc/self/fd/\(name)", buffer.baseAddress!, buffer.count)
    }
    if length > 0, String(decoding: target.prefix(length), as: UTF8.self).contains("kvm") {
      count += 1
    }
  }
  return count
}
