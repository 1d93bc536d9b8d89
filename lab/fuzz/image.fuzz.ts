import { imageFuzzTest } from './image-test.ts';

imageFuzzTest('hostile headers of qcow2 are refused for what they are, or read as declared', 'qcow2', [
  'accepted',
  'image.invalid',
  'image.format',
  'image.external',
  'image.encrypted',
  'image.unsupported',
]);
imageFuzzTest('hostile headers and descriptors of VMDK are refused for what they are, or read as declared', 'vmdk', [
  'accepted',
  'image.invalid',
  'image.format',
  'image.external',
]);
imageFuzzTest(
  'hostile headers, regions and metadata of VHDX are refused for what they are, or read as declared',
  'vhdx',
  ['accepted', 'image.invalid', 'image.format', 'image.external', 'image.unsupported', 'image.too-large'],
);
