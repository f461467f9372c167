// Makes ethers.json, the vectors that test_eip712_vectors.py holds our EIP-712 hashes and signatures against. In an empty folder:
//   npm install ethers@6.17.0 && node <this file> > <ethers.json beside it>
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/");
const { Signature, TypedDataEncoder, Wallet, getBytes, hexlify, id, toBeHex } = require("ethers");

const AUTHORIZATION = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce";
const TERMS = {
  Terms:
    "address session_key,address router,bool managed,bytes32 model_id,uint8 assurance,uint8 replicas,uint16 router_bps," +
    "uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,uint64 expiry",
};
const ours = {
  Voucher: "bytes32 session,uint64 count,uint96 cumulative,bytes32 head,bytes32 splits",
  Receipt:
    "bytes32 session,bytes32 request_id,address miner,bytes32 model_id,bytes32 prompt_hash,bytes32 output_hash," +
    "uint64 prompt_tokens,uint64 output_tokens,uint96 price,uint64 started_at,uint64 finished_at,uint8 assurance,bytes32 evidence",
  Terms: TERMS.Terms,
  OpenSession: "address owner,uint256 nonce,uint96 deposit,uint256 deadline,Terms terms",
  TopUp: "bytes32 session,address payer,uint96 amount,bytes32 salt,uint256 deadline",
  ReplaceKey: "bytes32 session,address old_key,address new_key,uint256 deadline",
  RequestClose: "bytes32 session,address sender,uint256 deadline",
  ClaimTo: "address payee,address recipient,uint256 claimed,uint256 deadline",
  ApiKeyGrant: "bytes32 session,bytes32 key_hash,uint256 deadline",
  Registration: "address account,uint8 role,uint256 deadline",
  Deposit: "address owner,uint96 amount,bytes32 salt",
  Withdraw: "address account,uint96 amount,address recipient,uint256 nonce,uint256 deadline",
  Credit: "address account,bytes32 destination,uint96 amount,uint256 nonce,uint256 deadline",
  Epoch: "uint64 epoch,uint64 block_number,bytes32 receipts_root,bytes32 payouts_root,bytes32 content",
  Checkpoint: "bytes32 chain,uint64 epoch,bytes32 root",
  NextSet: "uint64 number,bytes32 root,uint256 total,uint64 valid_until",
  Jail: "address miner,uint64 until,uint96 penalty,bytes32 evidence",
  Capability: "address miner,bytes32 model_id,bytes32 reference,uint64 measured_at",
};
// What a token's owner signs under the token's own domain, which has no salt.
const tokens = {
  Permit: "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline",
  TransferWithAuthorization: AUTHORIZATION,
  ReceiveWithAuthorization: AUTHORIZATION,
  CancelAuthorization: "address authorizer,bytes32 nonce",
};

const fieldsOf = (text) => text.split(",").map((field) => ({ type: field.split(" ")[0], name: field.split(" ")[1] }));
const bytesOf = (type) => (type === "bytes32" ? 32 : type === "address" ? 20 : Number(type.slice(4)) / 8);
const fills = {
  lowest: (_, size) => new Uint8Array(size),
  highest: (_, size) => new Uint8Array(size).fill(0xff),
  "mixed 1": (path, size) => getBytes(id("1" + path)).slice(0, size),
  "mixed 2": (path, size) => getBytes(id("2" + path)).slice(0, size),
};

function make(fields, fill, path) {
  const value = ({ type, name }) => {
    if (type === "Terms") return make(fieldsOf(TERMS.Terms), fill, `${path}.${name}`);
    if (type === "bool") return fill(`${path}.${name}`, 1)[0] % 2 === 1;
    const found = hexlify(fill(`${path}.${name}`, bytesOf(type)));
    return type.startsWith("uint") ? BigInt(found).toString() : found;
  };
  return Object.fromEntries(fields.map((field) => [field.name, value(field)]));
}

function domainOf(fillName, salted) {
  const fill = fills[fillName];
  const chain = { lowest: 1n, highest: 2n ** 256n - 1n, "mixed 1": 42161n, "mixed 2": 31337n }[fillName];
  const domain = { name: salted ? "Tristrata" : `Token, ${fillName}`, version: salted ? "1" : fillName, chainId: chain.toString() };
  domain.verifyingContract = hexlify(fill("contract", 20));
  if (salted) domain.salt = hexlify(fill("salt", 32));
  return domain;
}

const vectors = [];
for (const [structs, salted] of [[ours, true], [tokens, false]]) {
  for (const [name, text] of Object.entries(structs)) {
    const types = { [name]: fieldsOf(text), ...(name === "OpenSession" ? { Terms: fieldsOf(TERMS.Terms) } : {}) };
    const encoder = TypedDataEncoder.from(types);
    for (const fillName of Object.keys(fills)) {
      const domain = domainOf(fillName, salted);
      const message = make(types[name], fills[fillName], name);
      const secret = fillName === "lowest" ? toBeHex(1, 32) : id(name + fillName);
      const signature = await new Wallet(secret).signTypedData(domain, types, message);
      vectors.push({
        name, values: fillName, type: encoder.encodeType(name), domain, message,
        struct_hash: encoder.hashStruct(name, message),
        separator: TypedDataEncoder.hashDomain(domain),
        digest: TypedDataEncoder.hash(domain, types, message),
        key: secret, signer: new Wallet(secret).address, signature,
        vs: Signature.from(signature).yParityAndS,
      });
    }
  }
}
console.log(`[\n${vectors.map((vector) => JSON.stringify(vector)).join(",\n")}\n]`);
