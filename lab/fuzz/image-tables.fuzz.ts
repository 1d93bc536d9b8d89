import { imageFuzzTest } from './image-test.ts';

const outcomes = ['accepted', 'image.partitions', 'image.file-system', 'image.not-bootable'];
imageFuzzTest('hostile GPTs, with file systems in them, are refused for what they are, or right ones', 'gpt', outcomes);
imageFuzzTest('hostile MBRs, with logical partitions, are refused for what they are, or right ones', 'mbr', outcomes);
